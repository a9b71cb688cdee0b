//! A real browser shows the image on pages of other origins, and the hit is found in the store.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::chromium::ALONE;
use crate::support::serving::{Served, serve, wait_for};
use crate::support::setup::require;

/// A page that shows the image at `src`, and says in its title what became of it.
fn page(src: &str, attributes: &str) -> String {
    format!(
        "<!doctype html><html><head><title>waiting</title></head><body>
         <img id=\"image\" {attributes} alt=\"\">
         <script>
         const image = document.getElementById('image');
         image.onload = () => document.title = `shown ${{image.naturalWidth}}x${{image.naturalHeight}}`;
         image.onerror = () => document.title = 'broken';
         image.src = '{src}';
         </script></body></html>"
    )
}

/// A web server with these pages, until it is dropped; its port makes it another origin.
pub struct Site {
    address: SocketAddr,
}

#[derive(Clone)]
pub struct Page {
    pub headers: &'static str,
    pub media_type: &'static str,
    pub body: Vec<u8>,
}

impl Site {
    pub fn start(pages: HashMap<&'static str, Page>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let address = listener.local_addr().expect("it has an address");
        // It ends with the test's process: an accept cannot be interrupted, and costs nothing.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let pages = pages.clone();
                std::thread::spawn(move || answer(&stream, &pages));
            }
        });
        Self { address }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// An error means that the browser has gone.
fn answer(mut stream: &TcpStream, pages: &HashMap<&'static str, Page>) -> Option<()> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    lines.find(String::is_empty)?;
    let answer = match pages.get(path.split('?').next()?) {
        Some(page) => {
            let mut answer = format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: {}\r\n{}Content-Length: {}\r\n\r\n",
                page.media_type,
                page.headers,
                page.body.len()
            )
            .into_bytes();
            answer.extend_from_slice(&page.body);
            answer
        }
        None => b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_vec(),
    };
    stream.write_all(&answer).ok()
}

/// The page's document after its images have come, as the browser has it.
fn open(url: &str) -> String {
    require(&["chromium"]);
    let profile = tempfile::tempdir().expect("a folder can be made");
    let output = Command::new("chromium")
        .args(ALONE)
        // Time in the page stands still while anything is being loaded.
        .args(["--virtual-time-budget=10000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(url)
        .env("HOME", profile.path())
        .stdin(Stdio::null())
        .output()
        .expect("chromium starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "chromium: {errors}");
    String::from_utf8(output.stdout).expect("a document is UTF-8")
}

fn title(document: &str) -> Option<&str> {
    document
        .split_once("<title>")?
        .1
        .split_once("</title>")
        .map(|(title, _)| title)
}

pub fn html(headers: &'static str, body: String) -> Page {
    Page {
        headers,
        media_type: "text/html; charset=utf-8",
        body: body.into_bytes(),
    }
}

fn text<'a>(event: &'a Value, pointer: &str) -> Option<&'a str> {
    event.pointer(pointer).and_then(Value::as_str)
}

/// The only event with this code.
fn event(served: &Served, code: &str) -> Value {
    let of_code = |event: &Value| text(event, "/pixel/code") == Some(code);
    let mut found = wait_for("the event", || {
        let found: Vec<_> = served.events().into_iter().filter(of_code).collect();
        (!found.is_empty()).then_some(found)
    });
    assert_eq!(found.len(), 1, "{code}: one hit, one event: {found:#?}");
    found.remove(0)
}

const ISOLATED: &str = "Cross-Origin-Embedder-Policy: require-corp\r\nCross-Origin-Opener-Policy: same-origin\r\n";

/// Headers of the page, its path, the path of the image, attributes of the image, and whether the whole page is told.
const CASES: [(&str, &str, &str, &str, bool); 5] = [
    ("", "/gif", "/pixel/gif.gif", "", false),
    ("", "/png", "/image/png.png", "", false),
    (
        "",
        "/told",
        "/pixel/told.gif",
        "referrerpolicy=\"no-referrer-when-downgrade\"",
        true,
    ),
    (ISOLATED, "/isolated-gif", "/pixel/isolated-gif.gif", "", false),
    (ISOLATED, "/isolated-png", "/image/isolated-png.png", "", false),
];

#[test]
fn a_page_of_another_origin_shows_the_image_and_the_hit_is_stored() {
    let served = serve().start();
    let pages = CASES.map(|(headers, path, image, attributes, _)| {
        (
            path,
            html(headers, page(&format!("{}{image}", served.url()), attributes)),
        )
    });
    let site = Site::start(pages.into());
    for (_, path, _, _, told) in CASES {
        let url = site.url(&format!("{path}?campaign=spring"));
        let document = open(&url);
        assert_eq!(title(&document), Some("shown 1x1"), "{path}: {document}");

        let event = event(&served, path.trim_start_matches('/'));
        let page = if told { url } else { site.url("/") };
        // Of a referrer the query is not stored.
        let referrer = page.split('?').next();
        assert_eq!(text(&event, "/url/full"), Some(page.as_str()), "{path}");
        assert_eq!(text(&event, "/http/request/referrer"), referrer, "{path}");
        assert_eq!(text(&event, "/event/action"), Some("view"), "{path}");
        let agent = text(&event, "/user_agent/original").unwrap_or_default();
        assert!(agent.contains("Chrome"), "{path}: {agent}");
    }
}

/// Shows that the test above can fail: an image without the pixel's header, and one that is none.
#[test]
fn an_isolated_page_refuses_other_images() {
    let image = |body: &[u8]| Page {
        headers: "",
        media_type: "image/gif",
        body: body.to_vec(),
    };
    let images = Site::start(HashMap::from([
        ("/bare.gif", image(&pixel::hit::pixel::GIF)),
        ("/broken.gif", image(b"This is no image.")),
    ]));
    let pages = Site::start(HashMap::from([
        ("/bare", html("", page(&images.url("/bare.gif"), ""))),
        ("/isolated", html(ISOLATED, page(&images.url("/bare.gif"), ""))),
        ("/broken", html("", page(&images.url("/broken.gif"), ""))),
    ]));
    for (path, expected) in [("/bare", "shown 1x1"), ("/isolated", "broken"), ("/broken", "broken")] {
        let document = open(&pages.url(path));
        assert_eq!(title(&document), Some(expected), "{path}: {document}");
    }
}
