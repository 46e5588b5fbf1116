//! Whether a path is exactly one of a known shape.
//!
//! A shape is literal text with holes of a strict form. Nothing is decoded, folded or tidied: a path
//! that differs in case, slashes, suffix, encoding or length from what the vendor documents does not
//! fit, and is thereby taken for one that creates. Called by the profile for POSTs alone.

/// The hexadecimal digits of a Twilio id after its two letters.
const SID_DIGITS: usize = 32;

/// The most characters of a word.
const LONGEST_WORD: usize = 64;

/// Whether `path` has the shape.
///
/// A hole is `{uuid}`, a UUID in lower case; `{word}`, 1 to 64 of `[A-Za-z0-9_-]`; or the letters of
/// Twilio ids, such as `{CA}` or `{SM|MM}`, followed on the wire by 32 hexadecimal digits.
pub fn fits(shape: &str, path: &str) -> bool {
    let (mut shape, mut path) = (shape, path);
    while let Some((literal, rest)) = shape.split_once('{') {
        let Some((hole, rest)) = rest.split_once('}') else {
            return false;
        };
        let filled = path.strip_prefix(literal).and_then(|p| fill(hole, p));
        let Some(left) = filled else { return false };
        (shape, path) = (rest, left);
    }
    shape == path
}

/// Whether [`fits`] can read `shape`, so that a slip of the pen is no path that nobody asks for.
///
/// # Errors
/// What is wrong with it.
pub fn check(shape: &str) -> Result<(), &'static str> {
    if !shape.starts_with('/') {
        return Err("a path starts with a slash");
    }
    let plain = |b: u8| b.is_ascii_graphic() && !b"?#".contains(&b);
    if !shape.bytes().all(plain) {
        return Err("a path is printable ASCII, as it is sent, without query or fragment");
    }
    let mut rest = shape;
    while let Some((literal, after)) = rest.split_once('{') {
        let (hole, after) = after.split_once('}').ok_or("a brace is left open")?;
        let letters = |l: &str| l.len() == 2 && l.bytes().all(|b| b.is_ascii_uppercase());
        let known = matches!(hole, "uuid" | "word") || hole.split('|').all(letters);
        if literal.contains('}') {
            return Err("a brace is closed that was not opened");
        }
        if !known {
            return Err("a hole is {uuid}, {word}, or the letters of Twilio ids such as {CA}");
        }
        rest = after;
    }
    match rest.contains('}') {
        true => Err("a brace is closed that was not opened"),
        false => Ok(()),
    }
}

/// What is left of `path` after the hole is filled.
fn fill<'p>(hole: &str, path: &'p str) -> Option<&'p str> {
    match hole {
        "uuid" => uuid(path),
        "word" => word(path),
        letters => letters.split('|').find_map(|l| sid(l, path)),
    }
}

fn sid<'p>(letters: &str, path: &'p str) -> Option<&'p str> {
    let (digits, rest) = path.strip_prefix(letters)?.split_at_checked(SID_DIGITS)?;
    digits
        .bytes()
        .all(|b| b.is_ascii_hexdigit())
        .then_some(rest)
}

fn uuid(path: &str) -> Option<&str> {
    let (text, rest) = path.split_at_checked(36)?;
    let fits = text.bytes().enumerate().all(|(at, b)| match at {
        8 | 13 | 18 | 23 => b == b'-',
        _ => b.is_ascii_digit() || (b'a'..=b'f').contains(&b),
    });
    fits.then_some(rest)
}

fn word(path: &str) -> Option<&str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    let length = path.bytes().take_while(|b| plain(*b)).count();
    let (_, rest) = path.split_at_checked(length)?;
    (1..=LONGEST_WORD).contains(&length).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SID: &str = "CA0123456789abcdef0123456789ABCDEF";
    const UUID: &str = "0190a5f0-7b1c-7def-8abc-0123456789ab";

    #[test]
    fn a_hole_takes_what_has_its_form_and_nothing_else() {
        assert!(fits("/Calls/{CA}.json", &format!("/Calls/{SID}.json")));
        assert!(fits("/Calls/{RE|CA}.json", &format!("/Calls/{SID}.json")));
        assert!(fits("/run/{uuid}/now", &format!("/run/{UUID}/now")));
        assert!(fits("/m/{word}/modify", "/m/18c-4_Ab/modify"));
        for (shape, path) in [
            ("/Calls/{RE}.json", format!("/Calls/{SID}.json")),
            ("/Calls/{CA}.json", format!("/Calls/{SID}0.json")),
            ("/Calls/{CA}.json", format!("/Calls/{}.json", &SID[..33])),
            ("/Calls/{CA}.json", format!("/Calls/{SID}.jsonx")),
            ("/run/{uuid}", format!("/run/{}", UUID.to_uppercase())),
            ("/run/{uuid}", format!("/run/{}", UUID.replace('-', "0"))),
            ("/m/{word}", "/m/".to_owned()),
            ("/m/{word}", "/m/a/b".to_owned()),
            ("/m/{word}", "/m/a%2fb".to_owned()),
            ("/m/{word}", format!("/m/{}", "a".repeat(65))),
            ("/m/{broken", "/m/x".to_owned()),
        ] {
            assert!(!fits(shape, &path), "{shape} {path}");
        }
    }

    #[test]
    fn a_shape_that_cannot_be_read_is_told() {
        for good in ["/", "/a/{uuid}/b", "/{word}", "/x/{SM|MM}.json"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "a",
            "/a?b",
            "/a b",
            "/é",
            "/{",
            "/}",
            "/a}{word}",
            "/{id}",
            "/{ca}",
            "/{}",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn letters_of_several_bytes_split_nothing() {
        assert!(!fits("/{uuid}", &format!("/{}", "é".repeat(18))));
        assert!(!fits("/{CA}", &format!("/CA{}", "é".repeat(20))));
        assert!(!fits("/{word}", "/é"));
    }
}
