//! `pixel snippet`: what it prints is read by parsers of each language, and asks for what was meant.

use pixel::api::snippet::{Form, Target, lines};
use pulldown_cmark::{Event, Parser, Tag};
use serde_json::{Value, json};

use crate::support::chromium::{Tab, browser};
use crate::support::serving::{request, run, send, serve};

/// A target whose every part means something to some language.
fn hostile() -> Target {
    let text = "a&b=\"c\" 'd' <e> (f) [g] \\h `i` *j* _k_ é %41 ]]> --> {{l}} #m?n;&copy;";
    Target {
        base: "https://pixel.example/pr'od&copy;(1)".into(),
        code: Some(format!("{text}/..")),
        parameters: vec![("utm_source".into(), text.into()), (text.into(), "v".into())],
        merged: vec![("userid".into(), "*|A & B|*<%= \"x\" > 'y' ]]> %>".into())],
    }
}

fn targets() -> Vec<Target> {
    let plain = Target {
        base: "https://pixel.example".into(),
        ..Target::default()
    };
    let coded = Target {
        code: Some("spring".into()),
        parameters: vec![
            ("utm_source".into(), "news".into()),
            ("utm_medium".into(), "email".into()),
        ],
        ..plain.clone()
    };
    vec![plain, coded, hostile()]
}

/// What a parser of the form's language finds: the element's name, its attributes, and its parent's name.
fn parsed(tab: &Tab<'_>, form: Form, text: &str) -> Value {
    let (text, kind) = match form {
        Form::Mjml => (text.to_owned(), "application/xml"),
        Form::Rss => {
            let feed = format!("<rss xmlns:content=\"http://purl.org/rss/1.0/modules/content/\">{text}</rss>");
            (feed, "application/xml")
        }
        Form::Script | Form::Gtm => (text.to_owned(), "text/html"),
        _ => (format!("<!doctype html><body>{text}"), "text/html"),
    };
    // The content of a feed's element is a text, which is HTML again.
    let expression = format!(
        "(() => {{
           let found = new DOMParser().parseFromString({}, '{kind}');
           if (found.querySelector('parsererror')) throw new Error('no XML');
           if ({}) found = new DOMParser().parseFromString(found.documentElement.textContent, 'text/html');
           const elements = [...found.querySelectorAll('img, script, amp-pixel')];
           const rest = found.documentElement.textContent.trim();
           return elements.map(it => ({{
             name: it.localName, parent: it.parentNode.localName, rest,
             attributes: Object.fromEntries([...it.attributes].map(one => [one.name, one.value])),
           }}));
         }})()",
        json!(text),
        form == Form::Rss
    );
    tab.value(&expression)
}

#[test]
fn every_language_reads_the_url_that_was_meant() {
    let browser = browser();
    let tab = browser.tab();
    for target in targets() {
        for form in Form::ALL {
            if form == Form::Markdown {
                continue;
            }
            let text = lines(form, &target);
            let found = parsed(&tab, form, &text);
            let what = format!("{}: {text}", form.name());
            assert_eq!(found.as_array().map(Vec::len), Some(1), "{what}: one element");
            let (name, parent) = match form {
                Form::Script | Form::Gtm => ("script", "head"),
                Form::Noscript => ("img", "noscript"),
                Form::Amp => ("amp-pixel", "body"),
                Form::Mjml => ("img", "mj-raw"),
                _ => ("img", "body"),
            };
            let element = &found[0];
            assert_eq!(element["name"], name, "{what}");
            assert_eq!(element["parent"], parent, "{what}");
            assert_eq!(element["rest"], "", "{what}: no text is left over");
            let source = element["attributes"]["src"].as_str().expect("a source");
            match form {
                Form::Script | Form::Gtm => assert_eq!(source, target.script(), "{what}"),
                Form::Amp => assert!(source.starts_with(&target.image()), "{what}"),
                _ => assert_eq!(source, target.image(), "{what}"),
            }
            if name == "img" {
                let size = ["width", "height", "alt"].map(|name| element["attributes"][name].as_str());
                assert_eq!(size, [Some("1"), Some("1"), Some("")], "{what}");
            }
            assert!(!text.contains("display:"), "{what}");
        }
    }
}

#[test]
fn markdown_reads_the_url_that_was_meant() {
    for target in targets() {
        let text = lines(Form::Markdown, &target);
        let images: Vec<_> = Parser::new(&text)
            .filter_map(|event| match event {
                Event::Start(Tag::Image { dest_url, .. }) => Some(dest_url.to_string()),
                Event::Text(text) => panic!("a text is left over: {text}"),
                _ => None,
            })
            .collect();
        assert_eq!(images, [target.image()], "{text}");
    }
}

#[test]
fn the_url_gives_the_event_that_was_meant() {
    let served = serve().start();
    let target = Target {
        base: served.url(),
        merged: Vec::new(),
        ..hostile()
    };
    let url = target.image();
    let path = url.strip_prefix(&served.url()).expect("it is below the base");
    let reply = send(served.address, &request("GET", path, &[]));
    assert_eq!(reply.header("x-pixel"), Some("accepted"));
    let event: Value = serde_json::from_str(&served.documents()[0]).expect("an event");
    assert_eq!(event["pixel"]["code"].as_str(), target.code.as_deref());
    assert_eq!(
        event["campaign"]["source"].as_str(),
        Some(target.parameters[0].1.as_str())
    );
}

#[test]
fn the_command_prints_one_or_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let printed = |arguments: &[&str]| {
        let output = run(folder.path(), &[&["snippet"], arguments].concat());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let usual = ["--url", "https://pixel.example/prod/", "--code", "spring"];
    let (code, one, talk) = printed(&[&["html"], usual.as_slice(), &["--campaign-source", "news"]].concat());
    assert_eq!((code, talk.as_str()), (Some(0), ""));
    assert_eq!(
        one,
        "<img src=\"https://pixel.example/prod/pixel/spring.gif?utm_source=news\" width=\"1\" height=\"1\" alt=\"\" referrerpolicy=\"no-referrer-when-downgrade\">\n"
    );
    let (code, all, _) = printed(&usual);
    assert_eq!(code, Some(0));
    let headings: Vec<_> = all
        .lines()
        .filter_map(|line| line.strip_prefix("# ")?.split(':').next())
        .collect();
    assert_eq!(headings, Form::ALL.map(Form::name));

    let (_, lines, _) = printed(&[&["mail", "rss", "--json", "--merge", "userid=*|ID|*"], usual.as_slice()].concat());
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(
        (lines.len(), &lines[0]["form"], &lines[1]["form"]),
        (2, &json!("mail"), &json!("rss"))
    );
    assert!(
        lines[0]["lines"]
            .as_str()
            .is_some_and(|text| text.contains("userid=*|ID|*"))
    );

    for wrong in [
        &["--url", "pixel.example"][..],
        &["--url", "https://a.example/?b"],
        &["--url", "https://me:pw@a.example/"],
        &["--parameter", "=x"],
        &["--parameter", "x"],
        &["--code", ""],
        &["word"],
    ] {
        let (code, out, talk) = printed(wrong);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{wrong:?}");
        assert!(!talk.is_empty(), "{wrong:?}");
    }
    let (_, _, talk) = printed(&["amp"]);
    assert!(talk.contains("https"), "{talk}");
}

#[test]
fn a_tag_of_a_mail_address_that_is_not_encoded_is_warned_of() {
    for (tag, encoded) in [
        ("*|EMAIL|*", Some("*|URL:EMAIL|*")),
        ("{{ contact.EMAIL }}", Some("{{ contact.email|urlencode }}")),
        ("%%emailaddr%%", Some("%%=URLEncode(emailaddr)=%%")),
        ("[e-mail]", Some("a tag of the subscriber's id")),
        ("*|URL:EMAIL|*", None),
        ("*|UNIQID|*", None),
    ] {
        let output = run(
            &std::env::temp_dir(),
            &["snippet", "mail", "--merge", &format!("userid={tag}")],
        );
        let (lines, talk) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success(), "{talk}");
        assert!(lines.contains("userid="), "{lines}");
        match encoded {
            Some(encoded) => assert!(talk.contains(encoded) && talk.contains(tag), "{talk}"),
            None => assert!(!talk.contains("mail address"), "{talk}"),
        }
    }
}
