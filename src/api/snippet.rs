//! The lines to paste into a page, a mail or a feed to show the pixel: one text for each language, with its escaping.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::hit::script;

/// The characters to encode: all that could have a meaning in a URL or in the language around it.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A language or a place for which lines can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A web page, without a script.
    Html,
    /// A web page, with the script.
    Script,
    /// A web page whose visitors have no scripts; next to [`Self::Script`].
    Noscript,
    /// A mail in HTML.
    Mail,
    /// A mail in MJML.
    Mjml,
    /// An item of an RSS feed.
    Rss,
    /// Markdown.
    Markdown,
    /// An AMP page.
    Amp,
    /// Google Tag Manager.
    Gtm,
}

impl Form {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 9] = [
        Self::Html,
        Self::Script,
        Self::Noscript,
        Self::Mail,
        Self::Mjml,
        Self::Rss,
        Self::Markdown,
        Self::Amp,
        Self::Gtm,
    ];

    /// Returns its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Script => "script",
            Self::Noscript => "noscript",
            Self::Mail => "mail",
            Self::Mjml => "mjml",
            Self::Rss => "rss",
            Self::Markdown => "markdown",
            Self::Amp => "amp",
            Self::Gtm => "gtm",
        }
    }

    /// Returns its name for readers who do not know the languages.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Html => "Image",
            Self::Script => "Script, also counts single-page apps and actions",
            Self::Noscript => "Image for visitors without JavaScript, beside the script",
            Self::Mail => "HTML mail",
            Self::Mjml => "MJML, a language for mails",
            Self::Rss => "RSS feed",
            Self::Markdown => "Markdown",
            Self::Amp => "AMP page",
            Self::Gtm => "Google Tag Manager",
        }
    }

    /// Returns the group under which the page shows it.
    pub const fn group(self) -> Group {
        match self {
            Self::Html | Self::Script | Self::Noscript => Group::Web,
            Self::Mail | Self::Mjml => Group::Mail,
            Self::Rss | Self::Markdown | Self::Amp | Self::Gtm => Group::Other,
        }
    }

    /// Returns instructions: the place for the lines, and its peculiarities.
    pub const fn place(self) -> &'static str {
        match self {
            Self::Html => "a web page, anywhere in its body",
            Self::Script => {
                "a web page, in its head; a content security policy needs this host in script-src, connect-src and img-src"
            }
            Self::Noscript => "a web page, in its body, beside the script",
            Self::Mail => "a mail, at the end of its body; do not hide it: Gmail does not load what display:none hides",
            Self::Mjml => "a mail in MJML, at the end of mj-body",
            Self::Rss => {
                "an item of an RSS feed whose rss element has xmlns:content=\"http://purl.org/rss/1.0/modules/content/\""
            }
            Self::Markdown => "Markdown; GitHub and others fetch the image once and show their own copy",
            Self::Amp => "an AMP page, in its body; AMP wants https",
            Self::Gtm => "Google Tag Manager, a tag of the type Custom HTML, fired on all pages",
        }
    }
}

/// A group of forms for the same kind of place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Web pages.
    Web,
    /// Mails.
    Mail,
    /// Everything else.
    Other,
}

impl Group {
    /// Returns its name in the page's data.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Mail => "mail",
            Self::Other => "other",
        }
    }
}

/// The request that the lines make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The URL below which visitors reach the pixel, without a slash at its end.
    pub base: String,
    /// The code.
    pub code: Option<String>,
    /// Further parameters, decoded.
    pub parameters: Vec<(String, String)>,
    /// Parameters whose values a mail program or a tag manager replaces; they are put into the URL without encoding.
    pub merged: Vec<(String, String)>,
}

impl Target {
    /// Returns the image's URL.
    pub fn image(&self) -> String {
        let path = match &self.code {
            Some(code) => format!("{}/pixel/{}.gif", self.base, encode(code)),
            None => format!("{}/pixel.gif", self.base),
        };
        self.with_query(path, None)
    }

    /// Returns the script's URL.
    pub fn script(&self) -> String {
        self.with_query(format!("{}/{}", self.base, script::NAME), self.code.as_deref())
    }

    fn with_query(&self, path: String, code: Option<&str>) -> String {
        let code = code.map(|code| format!("code={}", encode(code)));
        let plain = self.parameters.iter();
        let plain = plain.map(|(name, value)| format!("{}={}", encode(name), encode(value)));
        let merged = self.merged.iter();
        let merged = merged.map(|(name, value)| format!("{}={value}", encode(name)));
        let query: Vec<_> = code.into_iter().chain(plain).chain(merged).collect();
        if query.is_empty() {
            path
        } else {
            format!("{path}?{}", query.join("&"))
        }
    }
}

/// Returns the lines for a target.
///
/// ```
/// use pixel::api::snippet::{Form, Target, lines};
/// let target = Target { base: "https://pixel.example".into(), code: Some("a&b".into()), ..Target::default() };
/// assert_eq!(lines(Form::Markdown, &target), "![](<https://pixel.example/pixel/a%26b.gif>)");
/// ```
pub fn lines(form: Form, target: &Target) -> String {
    let image = markup(&target.image());
    let script = markup(&target.script());
    // So that the hit has the whole address of the page; by default, browsers send only its origin.
    let whole = "referrerpolicy=\"no-referrer-when-downgrade\"";
    let size = "width=\"1\" height=\"1\" alt=\"\"";
    match form {
        Form::Html => format!("<img src=\"{image}\" {size} {whole}>"),
        Form::Script | Form::Gtm => format!("<script async src=\"{script}\"></script>"),
        Form::Noscript => format!("<noscript><img src=\"{image}\" {size} {whole}></noscript>"),
        Form::Mail => format!("<img src=\"{image}\" {size} border=\"0\" style=\"border:0;width:1px;height:1px\">"),
        Form::Mjml => {
            format!("<mj-raw><img src=\"{image}\" {size} style=\"border:0;width:1px;height:1px\" /></mj-raw>")
        }
        Form::Rss => {
            // Only a merged value can contain the end of the section.
            let inner = format!("<img src=\"{image}\" {size}>").replace("]]>", "]]]]><![CDATA[>");
            format!("<content:encoded><![CDATA[{inner}]]></content:encoded>")
        }
        Form::Markdown => format!("![](<{}>)", markdown(&target.image())),
        Form::Amp => {
            let mut target = target.clone();
            for (name, variable) in [
                ("url", "CANONICAL_URL"),
                ("referrer", "DOCUMENT_REFERRER"),
                ("title", "TITLE"),
            ] {
                target.merged.push((name.to_owned(), variable.to_owned()));
            }
            format!(
                "<amp-pixel src=\"{}\" layout=\"nodisplay\"></amp-pixel>",
                markup(&target.image())
            )
        }
    }
}

/// A sender's tag of a mail address, and the tag that encodes it for a URL.
const ENCODED_TAGS: [(&str, &str, &str); 9] = [
    ("*|", "Mailchimp", "*|URL:EMAIL|*"),
    ("{{.", "listmonk", "{{ urlquery .Subscriber.Email }}"),
    ("%%", "Salesforce Marketing Cloud", "%%=URLEncode(emailaddr)=%%"),
    ("{contactfield=", "Mautic", "{contactfield=email|true}"),
    ("{{customer.", "Customer.io", "{{ customer.email | url_encode }}"),
    ("{{subscriber.", "Kit", "{{ subscriber.email_address | url_encode }}"),
    ("{{contact.", "HubSpot and Brevo", "{{ contact.email|urlencode }}"),
    ("{{person.", "Klaviyo", "{{ person.email|urlencode }}"),
    ("{{email", "Klaviyo", "{{ email|urlencode }}"),
];

/// Returns a warning for a merge tag that puts a mail address into the URL as it is: `+` would arrive as a blank, and `&` would
/// end the parameter.
///
/// ```
/// use pixel::api::snippet::warn_of_tag;
/// assert!(warn_of_tag("*|EMAIL|*").is_some_and(|warning| warning.contains("*|URL:EMAIL|*")));
/// assert_eq!(["*|UNIQID|*", "*|URL:EMAIL|*", "{{ email|urlencode }}"].map(warn_of_tag), [None, None, None]);
/// ```
pub fn warn_of_tag(tag: &str) -> Option<String> {
    let small: String = tag.to_lowercase().split_whitespace().collect();
    let encodes = ["url", "|true"].iter().any(|mark| small.contains(mark));
    let id = ["emailid", "email_id", "md5", "sha"]
        .iter()
        .any(|mark| small.contains(mark));
    if !small.contains("mail") || encodes || id {
        return None;
    }
    let known = ENCODED_TAGS.iter().find(|(begin, ..)| small.starts_with(begin));
    let advice = known.map_or_else(
        || "the tag with which your sender encodes it for a URL".to_owned(),
        |(_, sender, encoded)| format!("`{encoded}` ({sender})"),
    );
    Some(format!(
        "`{tag}` is a mail address that is not encoded: `+` in it arrives as a blank, and `&` ends it; use {advice}, or a \
         tag of the subscriber's id"
    ))
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// Escapes a text for the value of an attribute in HTML and XML.
fn markup(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Escapes a text for the destination of a link between `<` and `>` (`CommonMark` 0.31, 6.3).
fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' | '>' | '\\' => escaped.extend(['\\', character]),
            other => escaped.push(other),
        }
    }
    escaped
}
