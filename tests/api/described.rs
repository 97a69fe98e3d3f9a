//! Holds each REST answer that any test gets against `docs/openapi.json`: its row is described, its status is, and its
//! body has the fields described and no others.

use std::sync::OnceLock;

use reqwest::Method;
use serde_json::Value;

/// The committed description.
pub fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        serde_json::from_str(include_str!("../../docs/openapi.json")).expect("docs/openapi.json is JSON")
    })
}

/// Fails where an answer is not as described. `path` is whole, and may have a query.
#[track_caller]
pub fn check(method: &Method, path: &str, status: u16, body: &Value, text: &str) {
    let what = format!("{method} {path}");
    let path = path.split('?').next().unwrap_or_default();
    let Some(row) = row(path) else {
        assert_eq!(status, 404, "{what} is not described, but answered {text}");
        return;
    };
    let operation = &row[method.as_str().to_lowercase()];
    if operation.is_null() {
        assert_eq!(status, 405, "{what} is not described, but answered {text}");
        return;
    }
    let response = resolve(&operation["responses"][status.to_string()]);
    assert!(!response.is_null(), "{what} answered {status}, which is not described: {text}");
    match response["content"].as_object().and_then(|content| content.iter().next()) {
        Some((kind, content)) if kind == "application/json" => {
            if let Err(wrong) = fits(body, &content["schema"], "") {
                panic!("{what} answered {status} with {wrong}: {text}");
            }
        }
        Some(_) => {}
        None => assert_eq!(text, "", "{what} answered {status} with a body, which is not described"),
    }
}

/// The row of a path: of those that match, the one with the fewest parameters.
fn row(path: &str) -> Option<&'static Value> {
    let parts: Vec<&str> = path.split('/').collect();
    let rows = document()["paths"].as_object().expect("paths are an object").iter();
    let matching = rows.filter(|(template, _)| {
        let template: Vec<&str> = template.split('/').collect();
        let fits = |(of, part): (&&str, &&str)| of == part || of.starts_with('{') && !part.is_empty();
        template.len() == parts.len() && template.iter().zip(&parts).all(fits)
    });
    matching.min_by_key(|(template, _)| template.matches('{').count()).map(|(_, row)| row)
}

fn resolve(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        Some(reference) => {
            document().pointer(&reference[1..]).expect("a test of the library checks references")
        }
        None => value,
    }
}

/// Whether the value has the kind, the fields and the words that its schema names, and no other fields.
fn fits(value: &Value, schema: &'static Value, at: &str) -> Result<(), String> {
    let schema = resolve(schema);
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        return Err(format!("{at} = {value}, none of {words:?}"));
    }
    let is_right = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64(),
        Some("boolean") => value.is_boolean(),
        _ => true,
    };
    if !is_right {
        return Err(format!("{at} = {value}, which is no {}", schema["type"]));
    }
    for (at_item, item) in value.as_array().into_iter().flatten().enumerate() {
        fits(item, &schema["items"], &format!("{at}[{at_item}]"))?;
    }
    let (Some(fields), Some(members)) = (schema["properties"].as_object(), value.as_object()) else {
        return Ok(());
    };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !members.contains_key(name) {
            return Err(format!("{at} without {name}"));
        }
    }
    for (name, member) in members {
        let field = fields.get(name).ok_or_else(|| format!("{at}.{name}, which is not described"))?;
        fits(member, field, &format!("{at}.{name}"))?;
    }
    Ok(())
}

#[test]
fn what_differs_from_the_description_is_found() {
    let user = || serde_json::json!({"user_id": 1, "username": "ada", "display_name": "Ada", "avatar_file_id": 0, "bio": ""});
    let schema = &document()["components"]["schemas"]["User"];
    assert_eq!(fits(&user(), schema, ""), Ok(()));
    for (field, value) in [("user_id", Value::from("1")), ("bio", Value::Null), ("more", Value::from(1))] {
        let mut wrong = user();
        wrong[field] = value;
        assert!(fits(&wrong, schema, "").is_err(), "{field}");
    }
    let mut less = user();
    less.as_object_mut().expect("an object").remove("bio");
    assert!(fits(&less, schema, "").is_err());
    let word = &document()["components"]["schemas"]["MemberRole"];
    assert!(fits(&Value::from("owner"), word, "").is_ok() && fits(&Value::from("king"), word, "").is_err());
}
