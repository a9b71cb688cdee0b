import com.jayway.jsonpath.JsonPath;
import com.jayway.jsonpath.PathNotFoundException;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.StringWriter;
import java.net.URLDecoder;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import net.minidev.json.JSONStyle;
import net.minidev.json.JSONValue;
import net.minidev.json.parser.JSONParser;
import net.minidev.json.parser.ParseException;
import org.apache.commons.text.StringEscapeUtils;
import org.apache.velocity.Template;
import org.apache.velocity.VelocityContext;
import org.apache.velocity.app.VelocityEngine;
import org.apache.velocity.app.event.EventCartridge;
import org.apache.velocity.app.event.MethodExceptionEventHandler;
import org.apache.velocity.app.event.ReferenceInsertionEventHandler;
import org.apache.velocity.runtime.resource.loader.StringResourceLoader;

/**
 * Renders one API Gateway mapping template for many requests, with Apache Velocity and our reading of API Gateway's variables.
 *
 * <p>Lines in, lines out, so that one start of the JVM serves a whole corpus. Every free text is base64 of UTF-8.
 *
 * <pre>
 * stdin   line 1    TEMPLATE
 *         then one line for each request: tokens parted by a space, in any order, possibly none
 *           p:NAME:VALUE   path parameter        h:NAME:VALUE   header
 *           q:NAME:VALUE   query parameter       s:NAME:VALUE   stage variable
 *           c:NAME:VALUE   member of $context, its NAME dotted: identity.sourceIp
 *           b:BODY         request body
 * stdout  one line for each request, in order, flushed:  ok:RENDERED  or  err:REASON
 * </pre>
 */
public final class Render {
    public static void main(String[] args) throws IOException {
        var in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        var out = new PrintStream(new FileOutputStream(FileDescriptor.out), false, StandardCharsets.US_ASCII);
        VelocityEngine engine = engine(decode(in.readLine()));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            out.print(answer(engine, line) + "\n");
            out.flush();
        }
    }

    private static VelocityEngine engine(String source) {
        var engine = new VelocityEngine();
        engine.setProperty("resource.loaders", "string");
        engine.setProperty("resource.loader.string.class", StringResourceLoader.class.getName());
        engine.setProperty("directive.foreach.max_loops", 1000); // API Gateway's limit
        engine.init();
        StringResourceLoader.getRepository().putStringResource("template", source);
        return engine;
    }

    private static String answer(VelocityEngine engine, String line) {
        try {
            Template template = engine.getTemplate("template");
            var writer = new StringWriter();
            template.merge(context(line), writer);
            return "ok:" + encode(writer.toString());
        } catch (RuntimeException failure) {
            return "err:" + encode(failure.toString());
        }
    }

    private static VelocityContext context(String line) {
        var path = new LinkedHashMap<String, String>();
        var query = new LinkedHashMap<String, String>();
        var header = new LinkedHashMap<String, String>();
        var stageVariables = new LinkedHashMap<String, String>();
        var members = new LinkedHashMap<String, Object>();
        String body = "";
        for (String token : line.isEmpty() ? new String[0] : line.split(" ")) {
            String[] fields = token.split(":", -1);
            String first = decode(fields[1]);
            switch (fields[0]) {
                case "p" -> path.put(first, decode(fields[2]));
                case "q" -> query.put(first, decode(fields[2]));
                case "h" -> header.put(first, decode(fields[2]));
                case "s" -> stageVariables.put(first, decode(fields[2]));
                case "c" -> putMember(members, first, decode(fields[2]));
                case "b" -> body = first;
                default -> throw new IllegalArgumentException("unknown token " + fields[0]);
            }
        }
        var context = new VelocityContext();
        context.put("input", new Input(path, query, header, body));
        context.put("util", new Util());
        context.put("stageVariables", Collections.unmodifiableMap(stageVariables));
        context.put("context", members);
        var events = new EventCartridge();
        events.addEventHandler((ReferenceInsertionEventHandler) (inner, reference, value) ->
                value == null && reference.matches("(?s)\\$!?\\{?context\\b.*") ? "" : value);
        events.addEventHandler((MethodExceptionEventHandler) (inner, owner, method, failure, where) -> {
            throw new IllegalStateException(method + ": " + failure); // else Velocity prints the call itself
        });
        events.attachToContext(context);
        return context;
    }

    /** Puts {@code identity.sourceIp} under {@code sourceIp} in the map under {@code identity}. */
    @SuppressWarnings("unchecked")
    private static void putMember(Map<String, Object> members, String dotted, String value) {
        int dot = dotted.indexOf('.');
        if (dot < 0) {
            members.put(dotted, value);
            return;
        }
        Object inner = members.computeIfAbsent(dotted.substring(0, dot), name -> new LinkedHashMap<String, Object>());
        putMember((Map<String, Object>) inner, dotted.substring(dot + 1), value);
    }

    private static String decode(String base64) {
        return new String(Base64.getDecoder().decode(base64), StandardCharsets.UTF_8);
    }

    private static String encode(String text) {
        return Base64.getEncoder().encodeToString(text.getBytes(StandardCharsets.UTF_8));
    }

    private static String toJson(Object value) {
        return JSONValue.toJSONString(value, JSONStyle.NO_COMPRESS);
    }

    /** The variable {@code $input}. */
    public static final class Input {
        private final Map<String, Map<String, String>> params = new LinkedHashMap<>();
        private final String body;

        Input(Map<String, String> path, Map<String, String> query, Map<String, String> header, String body) {
            params.put("path", Collections.unmodifiableMap(path));
            params.put("querystring", Collections.unmodifiableMap(query));
            params.put("header", Collections.unmodifiableMap(header));
            this.body = body;
        }

        public Map<String, Map<String, String>> params() {
            return Collections.unmodifiableMap(params);
        }

        /** The first of path, query and header that has the name; the empty string without any. */
        public String params(String name) {
            return List.copyOf(params.values()).stream()
                    .filter(values -> values.containsKey(name))
                    .map(values -> values.get(name))
                    .findFirst()
                    .orElse("");
        }

        public String getBody() {
            return body;
        }

        public String json(String path) {
            return toJson(path(path));
        }

        /** The empty object without a body; a body that is not JSON is one string (this much is our reading, AWS does not say). */
        public Object path(String path) {
            if (body.isEmpty()) {
                return Map.of();
            }
            Object parsed = parsedBody();
            if (parsed == null) {
                return null; // the body `null`, which JsonPath refuses to read
            }
            try {
                return JsonPath.read(parsed, path);
            } catch (PathNotFoundException missing) {
                return "";
            }
        }

        private Object parsedBody() {
            try {
                return new JSONParser(JSONParser.MODE_RFC4627).parse(body);
            } catch (ParseException notJson) {
                return body;
            }
        }
    }

    /** The variable {@code $util}. A missing argument gives a missing result, as with any Velocity tool. */
    public static final class Util {
        public String escapeJavaScript(String text) {
            return StringEscapeUtils.escapeEcmaScript(text);
        }

        public Object parseJson(String text) throws ParseException {
            return new JSONParser(JSONParser.MODE_RFC4627).parse(text);
        }

        public String urlEncode(String text) {
            return URLEncoder.encode(text, StandardCharsets.UTF_8);
        }

        public String urlDecode(String text) {
            return URLDecoder.decode(text, StandardCharsets.UTF_8);
        }

        public String base64Encode(String text) {
            return encode(text);
        }

        public String base64Decode(String text) {
            return decode(text);
        }
    }
}
