//! Sparklines: two minutes as one path, without a script and without a style of their own.

use super::markup::{Markup, items};
use serde_json::Value;

/// The picture's height in its own units; each second is two wide.
const HEIGHT: f64 = 28.0;
/// The seconds that a picture spans, however many are known.
const SECONDS: usize = super::super::pulse::SECONDS;

/// Draws one series, and a second one over it where there is one.
pub(super) fn draw(page: &mut Markup, label: &str, series: &Value, over: Option<&Value>) {
    let highest = items(series).iter().filter_map(Value::as_f64);
    let highest = highest.fold(0.0, f64::max).max(1.0);
    page.raw("<svg class=\"spark\" viewBox=\"0 0 240 28\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"");
    page.text(label)
        .raw("\"><path class=\"base\" d=\"M0 28H240\"/>");
    for (class, values) in [("line", Some(series)), ("over", over)] {
        let Some(values) = values else { continue };
        let (area, line) = paths(items(values), highest);
        page.raw("<path class=\"area ").raw(class);
        page.raw("\" d=\"").text(area).raw("\"/>");
        page.raw("<path class=\"").raw(class);
        page.raw("\" d=\"").text(line).raw("\"/>");
    }
    page.raw("</svg>");
}

/// The area under a series and its upper edge, the latest second at the right. Seconds with
/// nothing in them are gaps.
fn paths(values: &[Value], highest: f64) -> (String, String) {
    let (mut area, mut line) = (String::new(), String::new());
    let first = SECONDS.saturating_sub(values.len());
    let mut last: Option<usize> = None;
    for (at, value) in values.iter().enumerate() {
        let x = (first + at) * 2;
        let Some(value) = value.as_f64().filter(|value| *value > 0.0) else {
            close(&mut area, last.take());
            continue;
        };
        let y = HEIGHT - 1.0 - (value / highest).clamp(0.0, 1.0) * (HEIGHT - 3.0);
        match last {
            None => {
                area.push_str(&format!("M{x} 28L{x} {y:.1}"));
                line.push_str(&format!("M{x} {y:.1}h.1"));
            }
            Some(_) => {
                area.push_str(&format!("L{x} {y:.1}"));
                line.push_str(&format!("L{x} {y:.1}"));
            }
        }
        last = Some(x);
    }
    close(&mut area, last);
    (area, line)
}

fn close(area: &mut String, last: Option<usize>) {
    if let Some(x) = last {
        area.push_str(&format!("L{x} 28Z"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_latest_second_is_at_the_right_and_a_gap_is_a_gap() {
        let values = json!([2, null, 0, 4]);
        let (area, line) = paths(items(&values), 4.0);
        assert_eq!(line, "M232 14.5h.1M238 2.0h.1");
        assert_eq!(area, "M232 28L232 14.5L232 28ZM238 28L238 2.0L238 28Z");
    }
}
