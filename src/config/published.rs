//! The JSON Schema of `proxy.yaml`, for editors and for checks without this program.
//!
//! It comes from the same types that read the file, so that the two cannot drift apart; what is done
//! here is only what the derive cannot know: a scalar may be a `${...}` expression, an absent key is
//! absent rather than null, and planned keys are left out until they are served.

use std::collections::BTreeSet;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::scalar::expression;
use super::schema::Config;
use super::served::NOT_SERVED;

const DEFINITIONS: &str = "#/$defs/";

/// The schema as JSON text (draft 2020-12), with a newline at its end.
#[must_use]
pub fn json_schema() -> String {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut root = generator.into_root_schema_for::<Config>().to_value();
    drop_null(&mut root);
    allow_expressions(&mut root);
    for (pattern, _) in NOT_SERVED {
        let steps: Vec<&str> = pattern.split('.').collect();
        remove(&mut root, "", &steps);
    }
    drop_unused_definitions(&mut root);
    if let Value::Object(root) = &mut root {
        root.insert("title".to_owned(), json!("proxy.yaml of Trunkline"));
    }
    format!("{root:#}\n")
}

/// An optional key is left out, not null, so the alternative `null` goes.
fn drop_null(schema: &mut Value) {
    let null = json!({ "type": "null" });
    if let Value::Object(object) = schema {
        if let Some(Value::Array(types)) = object.get_mut("type") {
            types.retain(|name| name != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                object.insert("type".to_owned(), only);
            }
        }
        if let Some(Value::Array(forms)) = object.get_mut("anyOf") {
            forms.retain(|form| *form != null);
            if let [Value::Object(only)] = forms.as_slice() {
                let only = only.clone();
                object.shift_remove("anyOf");
                object.extend(only);
            }
        }
    }
    each_child(schema, drop_null);
}

/// A fixed set of words may also come out of the environment.
fn allow_expressions(schema: &mut Value) {
    let words = |form: &Value| form.get("enum").is_some() || form.get("oneOf").is_some();
    if words(schema) && schema.get("type") != Some(&json!("object")) {
        let Value::Object(object) = schema else {
            return;
        };
        let mut form = Map::new();
        for key in ["type", "enum", "oneOf"] {
            if let Some(value) = object.shift_remove(key) {
                form.insert(key.to_owned(), value);
            }
        }
        object.insert("anyOf".to_owned(), json!([form, expression()]));
        return;
    }
    each_child(schema, allow_expressions);
}

/// Goes down the pattern from a place in the schema, through references, and removes what it names.
fn remove(root: &mut Value, place: &str, steps: &[&str]) {
    let Some(schema) = root.pointer(place) else {
        return;
    };
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        let target = target.trim_start_matches('#').to_owned();
        return remove(root, &target, steps);
    }
    match steps {
        [] => {}
        [last] => {
            let properties = root.pointer_mut(&format!("{place}/properties"));
            if let Some(Value::Object(properties)) = properties {
                properties.shift_remove(*last);
            }
        }
        ["*", rest @ ..] => {
            remove(root, &format!("{place}/items"), rest);
            remove(root, &format!("{place}/additionalProperties"), rest);
        }
        [key, rest @ ..] => remove(root, &format!("{place}/properties/{key}"), rest),
    }
}

/// Removes definitions that nothing refers to, until there are none.
fn drop_unused_definitions(root: &mut Value) {
    loop {
        let mut used = BTreeSet::new();
        collect_references(root, &mut used);
        let Some(Value::Object(definitions)) = root.pointer_mut("/$defs") else {
            return;
        };
        let before = definitions.len();
        definitions.retain(|name, _| used.contains(name));
        if definitions.len() == before {
            return;
        }
    }
}

fn collect_references(schema: &Value, used: &mut BTreeSet<String>) {
    match schema {
        Value::Object(object) => {
            if let Some(target) = object.get("$ref").and_then(Value::as_str) {
                used.insert(target.trim_start_matches(DEFINITIONS).to_owned());
            }
            object
                .values()
                .for_each(|value| collect_references(value, used));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, used)),
        _ => {}
    }
}

fn each_child(schema: &mut Value, act: fn(&mut Value)) {
    match schema {
        Value::Object(object) => object.values_mut().for_each(act),
        Value::Array(items) => items.iter_mut().for_each(act),
        _ => {}
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]
mod tests {
    use super::*;

    fn schema() -> Value {
        serde_json::from_str(&json_schema()).unwrap()
    }

    /// What the schema says about a place, through its references.
    fn resolve<'a>(root: &'a Value, steps: &[&str]) -> Option<&'a Value> {
        steps.iter().try_fold(root, |schema, step| {
            let schema = follow(root, schema);
            match *step {
                "*" => schema
                    .get("items")
                    .or_else(|| schema.get("additionalProperties")),
                key => schema.get("properties")?.get(key),
            }
        })
    }

    fn follow<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
        match schema.get("$ref").and_then(Value::as_str) {
            Some(target) => root.pointer(target.trim_start_matches('#')).unwrap(),
            None => schema,
        }
    }

    #[test]
    fn served_keys_are_there_and_described() {
        let root = schema();
        for place in [
            "listen.*.limits.h2_streams",
            "clients.identify_by.*",
            "rate_limits.*.requests",
            "upstreams.*.breaker.backoff.jitter",
            "upstreams.*.allow.*.*",
            "routes.*.match.headers.*",
            "routes.*.stub.sequence.*.json",
        ] {
            let steps: Vec<&str> = place.split('.').collect();
            assert!(resolve(&root, &steps).is_some(), "{place}");
        }
        let head = resolve(&root, &["listen", "*", "timeouts", "head"]).unwrap();
        assert!(
            head["description"]
                .as_str()
                .unwrap()
                .contains("Default `10s`")
        );
    }

    #[test]
    fn planned_keys_are_absent() {
        let root = schema();
        for (pattern, _) in NOT_SERVED {
            let steps: Vec<&str> = pattern.split('.').collect();
            assert!(resolve(&root, &steps).is_none(), "{pattern}");
        }
    }

    #[test]
    fn every_block_is_closed_and_nothing_is_null() {
        fn check(value: &Value) {
            if let Value::Object(object) = value {
                if object.get("properties").is_some_and(Value::is_object) {
                    assert_eq!(object["additionalProperties"], false, "{value}");
                }
                assert_ne!(object.get("type"), Some(&json!("null")), "{value}");
                assert_ne!(object.get("enum"), Some(&json!([null])), "{value}");
                object.values().for_each(check);
            }
            if let Value::Array(items) = value {
                items.iter().for_each(check);
            }
        }
        check(&schema());
    }

    #[test]
    fn every_reference_has_a_target_and_every_definition_a_use() {
        let root = schema();
        let mut used = BTreeSet::new();
        collect_references(&root, &mut used);
        let defined: BTreeSet<String> =
            root["$defs"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(used, defined);
    }

    #[test]
    fn words_and_scalars_may_be_expressions() {
        let root = schema();
        for steps in [
            &["environment"][..],
            &["drain", "grace"],
            &["stubs", "enabled"],
        ] {
            let forms = follow(&root, resolve(&root, steps).unwrap());
            assert!(
                forms["anyOf"].as_array().unwrap().contains(&expression()),
                "{steps:?}"
            );
        }
    }
}
