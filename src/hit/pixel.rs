//! The response that the visitor gets: the image, and the headers that the ingresses send with it.

use std::borrow::Cow;

use crate::hit::script;

/// A transparent GIF of 1x1, 43 bytes: header, a palette of two colours, a graphic control extension that makes colour 0
/// transparent, and one pixel of colour 0. GIF because every mail client shows it (SVG is refused by Gmail and Outlook).
pub const GIF: [u8; 43] = [
    b'G', b'I', b'F', b'8', b'9', b'a', // signature and version
    1, 0, 1, 0, 0x80, 0, 0, // 1x1, a global palette of two colours
    0, 0, 0, 0xff, 0xff, 0xff, // black, white
    0x21, 0xf9, 4, 1, 0, 0, 0, 0, // graphic control: colour 0 is transparent
    0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0, // image at 0,0 of 1x1
    2, 2, 0x44, 1, 0,    // LZW, minimum code size 2: clear, 0, end
    0x3b, // trailer
];

/// A transparent PNG of 1x1, 68 bytes: 8-bit grey with alpha, both zero.
pub const PNG: [u8; 68] = [
    0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, // signature
    0, 0, 0, 13, b'I', b'H', b'D', b'R', 0, 0, 0, 1, 0, 0, 0, 1, 8, 4, 0, 0, 0, // 1x1, 8 bits, grey and alpha
    0xb5, 0x1c, 0x0c, 0x02, // its checksum
    0, 0, 0, 11, b'I', b'D', b'A', b'T', 0x78, 0xda, 0x63, 0x60, 0x60, 0, 0, 0, 3, 0,
    1, // no filter, grey 0, alpha 0
    0x2b, 0x09, 0x4d, 0x84, // its checksum
    0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82, // end
];

/// Every repeated open must reach us: Gmail's image proxy and browsers ask again for what may not be stored.
pub const CACHE_CONTROL: &str = "no-store, no-cache, max-age=0, private";

/// The format of the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Image {
    /// The default.
    #[default]
    Gif,
    /// For paths that end in `.png`, and below `/image/`, whose images have been PNG since the first codes.
    Png,
}

impl Image {
    /// Returns the format for a path's ending.
    pub fn from_path(path: &str) -> Self {
        let png = path.len() >= 4 && path.as_bytes()[path.len() - 4..].eq_ignore_ascii_case(b".png");
        if png { Self::Png } else { Self::Gif }
    }

    /// Returns the bytes of the image file.
    pub const fn bytes(self) -> &'static [u8] {
        match self {
            Self::Gif => &GIF,
            Self::Png => &PNG,
        }
    }

    /// Returns the media type of the format.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Gif => "image/gif",
            Self::Png => "image/png",
        }
    }
}

/// The content of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// The pixel itself, which every hit gets.
    Image(Image),
    /// `/pixel.js`.
    Script,
}

impl Content {
    /// Returns the bytes of the file.
    pub fn bytes(self) -> &'static [u8] {
        match self {
            Self::Image(image) => image.bytes(),
            Self::Script => script::text().as_bytes(),
        }
    }

    /// Returns the media type of the content.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Image(image) => image.media_type(),
            Self::Script => script::MEDIA_TYPE,
        }
    }
}

impl From<Image> for Content {
    fn from(image: Image) -> Self {
        Self::Image(image)
    }
}

/// The HTTP status of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The response is the image or the script.
    Ok,
    /// The answer to a preflight.
    NoContent,
    /// The browser already has the script.
    NotModified,
    /// The path is not a path of the pixel; the response is the image anyway.
    NotFound,
    /// The method is not allowed; the response is the image anyway.
    MethodNotAllowed,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 5] = [
        Self::Ok,
        Self::NoContent,
        Self::NotModified,
        Self::NotFound,
        Self::MethodNotAllowed,
    ];

    /// Returns the number.
    pub const fn code(self) -> u16 {
        match self {
            Self::Ok => 200,
            Self::NoContent => 204,
            Self::NotModified => 304,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
        }
    }

    /// Returns the number and the reason phrase, as in a status line.
    pub const fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::NoContent => "204 No Content",
            Self::NotModified => "304 Not Modified",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
        }
    }

    /// Returns true if HTTP allows a body with this status.
    const fn has_body(self) -> bool {
        !matches!(self, Self::NoContent | Self::NotModified)
    }
}

/// The response to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pixel {
    /// The HTTP status.
    pub status: Status,
    /// The content, sent only if `body` is true.
    pub content: Content,
    /// True if the response has a body: not for `HEAD`, nor with status 204 or 304.
    pub body: bool,
    /// The headers other than `Content-Type`.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
}

impl Pixel {
    /// Creates a response with the common headers. `explanation` states the outcome of the hit, for people who use curl.
    ///
    /// There is no `ETag` and no `Last-Modified`: a revalidation costs a round trip and saves no bytes.
    pub fn new(status: Status, content: impl Into<Content>, explanation: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            content: content.into(),
            body: status.has_body(),
            headers: vec![
                ("Cache-Control", Cow::Borrowed(CACHE_CONTROL)),
                // Lets a page with strict defaults embed the image.
                ("Cross-Origin-Resource-Policy", Cow::Borrowed("cross-origin")),
                ("X-Pixel", explanation.into()),
            ],
        }
    }

    /// Returns the script, or 304 if `If-None-Match` shows that the browser already has it.
    pub fn script(if_none_match: Option<&str>, explanation: impl Into<Cow<'static, str>>) -> Self {
        let known = if_none_match.is_some_and(script::matches);
        Self {
            status: if known { Status::NotModified } else { Status::Ok },
            content: Content::Script,
            body: !known,
            headers: vec![
                ("Cache-Control", Cow::Borrowed(script::CACHE_CONTROL)),
                ("Cross-Origin-Resource-Policy", Cow::Borrowed("cross-origin")),
                ("X-Content-Type-Options", Cow::Borrowed("nosniff")),
                ("ETag", Cow::Borrowed(script::etag())),
                ("X-Pixel", explanation.into()),
            ],
        }
    }

    /// Adds the CORS headers for a configured origin.
    #[must_use]
    pub fn with_cors(mut self, origin: Option<&str>) -> Self {
        if let Some(origin) = origin {
            self.headers
                .push(("Access-Control-Allow-Origin", Cow::Owned(origin.to_owned())));
            self.headers
                .push(("Access-Control-Allow-Methods", Cow::Borrowed("GET, HEAD, OPTIONS")));
            if origin != "*" {
                self.headers.push(("Vary", Cow::Borrowed("Origin")));
            }
        }
        self
    }

    /// Removes the body, for a request with `HEAD`.
    #[must_use]
    pub fn without_body(mut self) -> Self {
        self.body = false;
        self
    }

    /// Returns all headers, `Content-Type` first; a 204 and a 304 have no `Content-Type`.
    pub fn all_headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let media_type = self
            .status
            .has_body()
            .then_some(("Content-Type", self.content.media_type()));
        media_type
            .into_iter()
            .chain(self.headers.iter().map(|(name, value)| (*name, value.as_ref())))
    }
}
