//! Whatever stands in `proxy.yaml`, it is compiled or refused: with problems that lie within the text, in its order, and
//! the same ones each time.

#![no_main]

use libfuzzer_sys::fuzz_target;
use trunkline::routes::compile;

fuzz_target!(|text: &str| {
    let env = |name: &str| (name.len() % 2 == 0).then(|| format!("value of {name}").into());
    // YAML ends a line at each of these, and this counts at least as many.
    let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
    if let Err(problems) = compile::parse("fuzz.yaml", text, &env) {
        assert!(!problems.is_empty(), "it was refused without a word");
        let mut told = Vec::new();
        for problem in problems.iter() {
            let (line, column) = (problem.line, problem.column);
            assert!((1..=lines + 1).contains(&line), "line {line} of {lines}");
            assert!(column >= 1);
            assert!(!problem.what.is_empty());
            told.push((line, column, problem.what.clone()));
        }
        let Err(again) = compile::parse("fuzz.yaml", text, &env) else {
            panic!("it was refused once only");
        };
        let again: Vec<_> = again.iter().map(|p| (p.line, p.column, p.what.clone())).collect();
        assert_eq!(told, again);
    }
});
