//! Behind the proxies that most servers stand behind: nginx and Caddy, as they are installed.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use pixel::hit::code::{Contents, Keys};
use serde_json::Value;

use super::{get, json, metric};
use crate::support::serving::{PATIENCE, Serve, Served, serve, wait_for};
use crate::support::setup;

const KEYS: &str = "1:MDEyMzQ1Njc4OWFiY2RlZg";
const BROWSER: &str =
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36";

/// More than make a burst when they are one visitor's.
const RECIPIENTS: u8 = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Nginx,
    Caddy,
}

/// A proxy before a server. It takes a client's address from the client, as all of them are on this machine.
struct Proxy {
    kind: Kind,
    address: SocketAddr,
    process: Child,
    _folder: tempfile::TempDir,
}

impl Proxy {
    fn start(kind: Kind, server: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let process = match kind {
            Kind::Nginx => nginx(folder.path(), address, server),
            Kind::Caddy => caddy(folder.path(), address, server),
        };
        let proxy = Self {
            kind,
            address,
            process,
            _folder: folder,
        };
        wait_for("the proxy", || TcpStream::connect(address).ok());
        proxy
    }

    /// Opens the image from an address: how it was answered.
    fn open(&self, target: &str, client: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (before, header) = match self.kind {
            Kind::Nginx => (format!("PROXY TCP4 {client} 127.0.0.1 40000 80\r\n"), String::new()),
            Kind::Caddy => (String::new(), format!("X-Client: {client}\r\n")),
        };
        let request = format!(
            "{before}GET {target} HTTP/1.1\r\nHost: a.example\r\nUser-Agent: {BROWSER}\r\nAccept: image/*\r\n{header}Connection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        let told = answer.lines().find_map(|line| line.strip_prefix("x-pixel: "));
        told.unwrap_or_else(|| panic!("{answer}")).to_owned()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // An error means that it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn nginx(folder: &Path, address: SocketAddr, server: SocketAddr) -> Child {
    setup::require(&["nginx"]);
    let place = folder.display();
    let paths =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|name| format!("{name}_temp_path {place}/{name};\n"));
    let paths = paths.concat();
    let configuration = format!(
        "daemon off;\nmaster_process off;\npid {place}/pid;\nerror_log {place}/errors;\nevents {{}}\nhttp {{\naccess_log off;\n{paths}\
         server {{\nlisten {address} proxy_protocol;\nset_real_ip_from 127.0.0.1;\nreal_ip_header proxy_protocol;\n\
         location / {{\nproxy_pass http://{server};\nproxy_set_header Host $host;\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n}}\n}}\n}}\n"
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, configuration).unwrap();
    let mut command = Command::new("nginx");
    command
        .arg("-c")
        .arg(&file)
        .arg("-p")
        .arg(folder)
        .arg("-e")
        .arg(folder.join("errors"));
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nginx starts")
}

fn caddy(folder: &Path, address: SocketAddr, server: SocketAddr) -> Child {
    setup::require(&["caddy"]);
    let port = address.port();
    let configuration = format!(
        "{{\nadmin off\n}}\nhttp://:{port} {{\nbind 127.0.0.1\nreverse_proxy {server} {{\n\
         header_up X-Forwarded-For {{http.request.header.X-Client}}\n}}\n}}\n"
    );
    let file = folder.join("Caddyfile");
    std::fs::write(&file, configuration).unwrap();
    let mut command = Command::new("caddy");
    command
        .arg("run")
        .arg("--config")
        .arg(&file)
        .args(["--adapter", "caddyfile"]);
    command.env("HOME", folder).current_dir(folder);
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("caddy starts")
}

/// A code for one recipient.
fn code(recipient: &str) -> String {
    let keys = Keys::parse(KEYS).expect("keys");
    let contents = Contents {
        campaign: Some("spring".to_owned()),
        recipient: keys.recipient(recipient).ok(),
        sent: None,
        expires: None,
    };
    keys.sign(&contents).expect("a code")
}

fn serving() -> Serve {
    serve().variable("PIXEL_CODE_KEYS", KEYS)
}

/// Has each recipient open a mail, all at once. Returns the events, and what the server has said.
fn open_all(served: Served, kind: Kind) -> (Vec<Value>, Vec<String>) {
    let proxy = Proxy::start(kind, served.address);
    for number in 1..=RECIPIENTS {
        let target = format!("/pixel/{}.gif", code(&format!("{number}@a.example")));
        assert_eq!(proxy.open(&target, &format!("198.{number}.100.7")), "accepted");
    }
    served.signal("TERM");
    let stderr = served.stderr.clone();
    let (_, serving) = served.ended();
    let documents = crate::support::serving::documents(serving.folder());
    let events = documents.iter().map(|event| serde_json::from_str(event).expect("JSON"));
    (events.collect(), stderr.to_the_end())
}

fn count_visitors(events: &[Value]) -> usize {
    let visitors = events
        .iter()
        .map(|event| event["visitor"]["id"].as_str().expect("a visitor"));
    visitors.collect::<std::collections::BTreeSet<_>>().len()
}

fn check_human(events: &[Value]) {
    assert_eq!(events.len(), usize::from(RECIPIENTS));
    for event in events {
        assert_eq!(event["visit"]["class"], "human", "{event}");
    }
}

fn is_warning(line: &str) -> bool {
    line.starts_with("warning ") && line.contains("--behind-proxy")
}

#[test]
fn behind_a_known_proxy_each_visitor_is_one() {
    for kind in [Kind::Nginx, Kind::Caddy] {
        let served = serving().argument("--behind-proxy").start();
        assert_eq!(metric(served.address, "pixel_proxy_without_hops"), 0);
        let (events, lines) = open_all(served, kind);
        check_human(&events);
        assert_eq!(count_visitors(&events), usize::from(RECIPIENTS), "{kind:?}");
        let networks = events
            .iter()
            .map(|event| event["client"]["ip"].as_str().expect("a network"));
        let networks: std::collections::BTreeSet<_> = networks.collect();
        assert_eq!(networks.len(), usize::from(RECIPIENTS), "{kind:?}: {networks:?}");
        assert!(!lines.iter().any(|line| is_warning(line)), "{lines:#?}");
    }
}

#[test]
fn behind_an_unknown_proxy_there_is_a_warning_and_no_burst() {
    for (kind, policy) in [(Kind::Nginx, "shorten"), (Kind::Caddy, "drop")] {
        let served = serving().variable("PIXEL_PRIVACY_IP", policy).start();
        let address = served.address;
        assert_eq!(json(&get(address, "/v1/api/status"))["warnings"], Value::Null);
        Proxy::start(kind, address).open("/pixel.gif", "198.51.100.7");
        assert_eq!(metric(address, "pixel_proxy_without_hops"), 1);
        let status = json(&get(address, "/v1/api/status"));
        assert_eq!(status["warnings"][0]["code"], "proxy_without_hops", "{status}");
        assert!(
            status["warnings"][0]["message"]
                .as_str()
                .is_some_and(|text| text.contains("PIXEL_TRUSTED_HOPS"))
        );
        let (mut events, lines) = open_all(served, kind);
        events.remove(0);
        check_human(&events);
        assert_eq!(count_visitors(&events), 1);
        for event in &events {
            assert_eq!(event["event"]["oddities"][0], "proxy_address", "{event}");
        }
        assert_eq!(lines.iter().filter(|line| is_warning(line)).count(), 1, "{lines:#?}");
    }
}

#[test]
fn two_words_for_the_number_of_proxies_are_refused() {
    for (hops, is_refused) in [("2", true), ("0", true), ("1", false)] {
        let serving = serve().argument("--behind-proxy").variable("PIXEL_TRUSTED_HOPS", hops);
        if !is_refused {
            serving.start();
            continue;
        }
        let failed = serving.fail();
        let said = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert_eq!(failed.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("`PIXEL_TRUSTED_HOPS={hops}`")), "{said}");
    }
}
