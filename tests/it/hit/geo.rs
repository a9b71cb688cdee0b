//! Places by address, of a file in `MaxMind`'s format.

use std::path::Path;

use serde_json::Value;
use tempfile::tempdir;

use crate::support::serving::{pixel, request, send, serve};

/// A file that knows the country and network of 127.0.0.0/8 and nothing else, made by the format's specification
/// (`MaxMind` DB file format specification, version 2.0): a tree of pairs of 24-bit records, sixteen zeros, data, metadata.
fn file() -> Vec<u8> {
    let text = |text: &str| [&[0x40 | u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    let map = |members: u8| vec![0xe0 | members];
    let number = |number: u16| [&[0xa2][..], &number.to_be_bytes()].concat();
    // 8 bits of 127: a zero, then ones.
    let nodes = 8_u32;
    let mut file = Vec::new();
    for node in 0..nodes {
        let next = if node + 1 == nodes { nodes + 16 } else { node + 1 };
        let (zero, one) = if node == 0 { (next, nodes) } else { (nodes, next) };
        file.extend_from_slice(&zero.to_be_bytes()[1..]);
        file.extend_from_slice(&one.to_be_bytes()[1..]);
    }
    file.extend_from_slice(&[0; 16]);
    file.extend([map(2), text("country"), map(1), text("iso_code"), text("NZ")].concat());
    let long = "autonomous_system_number";
    // A text of 24 letters: its length stands in the same byte.
    file.extend([text(long), [&[0xc4][..], &64_500_u32.to_be_bytes()].concat()].concat());
    file.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
    file.extend(
        [
            map(9),
            text("binary_format_major_version"),
            number(2),
            text("binary_format_minor_version"),
            number(0),
            text("build_epoch"),
            vec![0x04, 0x02, 0x65, 0x00, 0x00, 0x00],
            text("database_type"),
            text("Test"),
            text("description"),
            map(1),
            text("en"),
            text("Test"),
            text("ip_version"),
            number(4),
            text("languages"),
            vec![0x00, 0x04],
            text("node_count"),
            [&[0xc4][..], &nodes.to_be_bytes()].concat(),
            text("record_size"),
            number(24),
        ]
        .concat(),
    );
    file
}

fn write(folder: &Path, bytes: &[u8]) -> String {
    let path = folder.join("places.mmdb");
    std::fs::write(&path, bytes).expect("it can be written");
    path.to_str().expect("a text").to_owned()
}

#[test]
fn the_place_is_looked_up_before_the_address_is_shortened() {
    let folder = tempdir().expect("a folder");
    let path = write(folder.path(), &file());
    for address in ["shorten", "drop"] {
        let served = serve()
            .variable("PIXEL_GEO_FILE", &path)
            .variable("PIXEL_PRIVACY_IP", address)
            .start();
        send(served.address, &request("GET", "/pixel.gif", &[]));
        send(
            served.address,
            &request("GET", "/pixel.gif", &[("CloudFront-Viewer-Country", b"DE")]),
        );
        let events: Vec<Value> = served.events();
        let place = |event: &Value| {
            (
                event["client"]["geo"]["country_iso_code"].clone(),
                event["client"]["as"]["number"].clone(),
            )
        };
        assert_eq!(place(&events[0]), ("NZ".into(), 64_500.into()), "{}", events[0]);
        // The edge's word counts more.
        assert_eq!(place(&events[1]), ("DE".into(), 64_500.into()));
    }
}

#[test]
fn a_missing_or_broken_file_is_told_at_the_start() {
    let folder = tempdir().expect("a folder");
    let whole = file();
    let cases = [
        (
            "missing",
            folder.path().join("none.mmdb").to_str().expect("a text").to_owned(),
        ),
        ("no such format", write(folder.path(), b"hello")),
    ];
    for (name, path) in cases {
        let output = serve().variable("PIXEL_GEO_FILE", &path).fail();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            errors.contains("PIXEL_GEO_FILE") && errors.contains(".mmdb"),
            "{name}: {errors}"
        );
        assert_eq!(output.status.code(), Some(2), "{name}: {errors}");
    }
    // With all else that is wrong.
    let none = write(folder.path(), b"hello");
    for command in ["serve", "config"] {
        let output = pixel(folder.path())
            .args([command, "-d", "sqlite:pixel.db"])
            .env("PIXEL_GEO_FILE", &none)
            .env("PIXEL_REPLY", "later")
            .output()
            .expect("pixel starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command}: {errors}");
        for name in ["PIXEL_GEO_FILE", "PIXEL_REPLY"] {
            assert_eq!(errors.matches(name).count(), 1, "{command}: {errors}");
        }
    }
    let cut = write(folder.path(), &whole[30..]);
    let errors = serve().variable("PIXEL_GEO_FILE", &cut).fail().stderr;
    assert!(String::from_utf8_lossy(&errors).contains("PIXEL_GEO_FILE"));
}
