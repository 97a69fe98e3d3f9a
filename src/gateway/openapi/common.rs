//! What every row of the API has, so that no handler says it: ids in the path, refusals, bounds of numbers.

use serde_json::{Map, Value, json};

/// Ids and seqs on the wire are below 2^53, which is what a double holds exactly.
const ID_MAX: u64 = (1 << 53) - 1;

/// Refusals that any row may answer: status, name and description.
const EVERYWHERE: [(&str, &str, &str); 6] = [
    ("400", "InvalidArgument", "Something of the request can't be taken; `field` says what."),
    ("401", "Unauthenticated", "No token, or one that is not valid any more."),
    ("413", "TooLarge", "The body is larger than `gateway.body_bytes_max`."),
    ("500", "Internal", "A bug of the server. A send may have been stored."),
    (
        "503",
        "Unavailable",
        "The node can't serve this now; try again after `Retry-After`. A send may have been stored.",
    ),
    ("504", "DeadlineExceeded", "It took too long. A send may have been stored."),
];

/// They as components of the description.
pub fn responses() -> Value {
    EVERYWHERE
        .iter()
        .map(|(status, name, description)| ((*name).to_owned(), refusal(status, description)))
        .collect::<Map<_, _>>()
        .into()
}

fn refusal(status: &str, description: &str) -> Value {
    let mut response = json!({
        "description": description,
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Refusal" } } },
    });
    let header =
        |description: &str, kind: &str| json!({ "description": description, "schema": { "type": kind } });
    match status {
        "401" => response["headers"] = json!({ "WWW-Authenticate": header("`Bearer`.", "string") }),
        "429" | "503" => {
            response["headers"] = json!({ "Retry-After": header("Whole seconds.", "integer") });
        }
        _ => {}
    }
    response
}

/// Adds to an operation what its handler does not say.
pub fn complete(path: &str, operation: &mut Value) {
    let is_open = operation["security"] == json!([{}]);
    if is_open {
        operation["security"] = json!([]);
    }
    let has_body = !operation["requestBody"].is_null();
    if let Some(responses) = operation["responses"].as_object_mut() {
        for (status, response) in responses.iter_mut() {
            if status.as_str() >= "400" && response["content"].is_null() {
                *response = refusal(status, response["description"].as_str().unwrap_or_default());
            }
        }
        for (status, name, _) in EVERYWHERE {
            let possible = match status {
                "401" => !is_open,
                "413" => has_body,
                _ => true,
            };
            if possible && !responses.contains_key(status) {
                let reference = json!({ "$ref": format!("#/components/responses/{name}") });
                responses.insert(status.to_owned(), reference);
            }
        }
    }
    name_ids(path, operation);
}

/// Describes the ids in the path, and takes `null` from parameters, which can't be written there.
fn name_ids(path: &str, operation: &mut Value) {
    let mut parameters = match operation["parameters"].take() {
        Value::Array(parameters) => parameters,
        _ => Vec::new(),
    };
    let mut before = "";
    let mut ids = Vec::new();
    for part in path.split('/') {
        let name = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
        if let Some(name) = name
            && !parameters.iter().any(|parameter| parameter["name"] == name && parameter["in"] == "path")
        {
            let description = match (name, before) {
                ("id", "users") | ("user_id", _) => "A user's id.",
                ("id", "conversations") => "A conversation's id.",
                ("device_id", _) => "A device's id.",
                ("seq", _) => "A message's seq.",
                _ => "An id.",
            };
            let schema = json!({ "type": "integer", "format": "int64", "minimum": 0 });
            ids.push(json!({
                "name": name, "in": "path", "required": true, "description": description, "schema": schema,
            }));
        }
        before = part;
    }
    ids.append(&mut parameters);
    for parameter in &mut ids {
        let schema = &mut parameter["schema"]["type"];
        if let Some(kind) = schema.as_array().and_then(|kinds| kinds.iter().find(|kind| *kind != "null")) {
            *schema = kind.clone();
        }
    }
    if ids.is_empty() {
        operation.as_object_mut().map(|operation| operation.remove("parameters"));
    } else {
        operation["parameters"] = Value::Array(ids);
    }
}

/// Says of every unsigned number how large it may be, and leaves out defaults, which are what "absent" always means.
pub fn tidy(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if members.contains_key("type") || members.contains_key("$ref") || members.contains_key("oneOf") {
                members.remove("default");
            }
            let unsigned = members.get("minimum") == Some(&json!(0)) && !members.contains_key("maximum");
            let max = match members.get("format").and_then(Value::as_str) {
                Some("int64") if unsigned => Some(ID_MAX),
                Some("int32") if unsigned => Some(u64::from(u32::MAX)),
                _ => None,
            };
            if let Some(max) = max {
                members.insert("maximum".to_owned(), json!(max));
                // The largest of 32 bits without a sign is no int32.
                members.insert("format".to_owned(), json!("int64"));
            }
            members.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_completed() {
        let mut operation = json!({
            "parameters": [{ "name": "limit", "in": "query", "schema": { "type": ["integer", "null"] } }],
            "requestBody": {},
            "responses": { "204": { "description": "Done." }, "429": { "description": "Too much." } },
        });
        complete("/api/v1/users/{id}/messages", &mut operation);
        let statuses: Vec<&str> = operation["responses"]
            .as_object()
            .map(|responses| responses.keys().map(String::as_str).collect())
            .unwrap_or_default();
        assert_eq!(statuses, ["204", "400", "401", "413", "429", "500", "503", "504"]);
        assert_eq!(operation["parameters"][0]["description"], "A user's id.");
        assert_eq!(operation["parameters"][1]["schema"]["type"], "integer");
        assert!(operation["responses"]["429"]["headers"]["Retry-After"].is_object());
        assert!(operation["responses"]["204"]["content"].is_null());
    }

    #[test]
    fn an_open_row_asks_for_no_token() {
        let mut operation = json!({ "security": [{}], "responses": {} });
        complete("/healthz", &mut operation);
        assert_eq!(operation["security"], json!([]));
        assert!(operation["responses"]["401"].is_null() && operation["responses"]["413"].is_null());
    }

    #[test]
    fn numbers_are_bounded() {
        let mut schema = json!([
            { "format": "int64", "minimum": 0 },
            { "format": "int32", "minimum": 0 },
            { "format": "int64", "minimum": 0, "maximum": 7 },
        ]);
        tidy(&mut schema);
        assert_eq!(schema[0]["maximum"], ID_MAX);
        assert_eq!(schema[1], json!({ "format": "int64", "minimum": 0, "maximum": u32::MAX }));
        assert_eq!(schema[2]["maximum"], 7);
    }
}
