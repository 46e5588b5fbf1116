//! No path climbs: what passes the check holds no `.` or `..` segment for a server that decodes once, whichever slash it
//! goes by. The twin decodes everything first and looks then.

#![no_main]

use libfuzzer_sys::fuzz_target;
use trunkline::routes::pattern::has_dot_segment;

fn decoded(path: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|n| u8::try_from(n).ok());
    let bytes = path.as_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let pair = bytes.get(at + 1).copied().and_then(digit).zip(bytes.get(at + 2).copied().and_then(digit));
        match (bytes[at], pair) {
            (b'%', Some((high, low))) => {
                out.push(high * 16 + low);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

fuzz_target!(|path: &str| {
    let decoded = decoded(path);
    let climbs = decoded.split(|byte| matches!(byte, b'/' | b'\\')).any(|segment| {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        matches!(name, b"." | b"..")
    });
    assert_eq!(has_dot_segment(path), climbs, "{path:?}");
});
