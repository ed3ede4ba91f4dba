//! Examples of bodies in the OpenAPI document: answers of a real server, shortened, by the names of their schemas.
//! Errors have theirs beside their fields.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::ArrayItems;
use utoipa::openapi::{Content, OpenApi, PathItem, RefOr, Schema};

const EXAMPLES: &str = include_str!("examples.json");
const EVENT_STREAM: &str = "text/event-stream";

/// Shows an example of every request and response.
pub(crate) fn show(document: &mut OpenApi) {
    let examples: BTreeMap<String, Json> = serde_json::from_str(EXAMPLES).unwrap_or_default();
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        if let Some(RefOr::T(body)) = &mut operation.request_body {
            for (kind, content) in &mut body.content {
                fill(kind, content, &examples);
            }
        }
        for response in operation.responses.responses.values_mut() {
            let RefOr::T(response) = response else { continue };
            for (kind, content) in &mut response.content {
                fill(kind, content, &examples);
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.patch, &mut item.delete].into_iter().flatten()
}

fn fill(kind: &str, content: &mut RefOr<Content>, examples: &BTreeMap<String, Json>) {
    let RefOr::T(content) = content else { return };
    let example = content.schema.as_ref().and_then(|schema| example_of(schema, examples));
    content.example = match example {
        Some(message) if kind == EVENT_STREAM => {
            Some(format!("id: 42\ndata: {message}\n\n").into())
        }
        example => example,
    };
}

/// The example of a named schema, or a list of the one of its items.
fn example_of(schema: &RefOr<Schema>, examples: &BTreeMap<String, Json>) -> Option<Json> {
    match schema {
        RefOr::Ref(named) => examples.get(named.ref_location.rsplit('/').next()?).cloned(),
        RefOr::T(Schema::Array(list)) => match &list.items {
            ArrayItems::RefOrSchema(items) => Some(json!([example_of(items, examples)?])),
            ArrayItems::False => None,
        },
        RefOr::T(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open_api;

    /// Why `value` is none of `schema`, if it is none.
    fn misfit(value: &Json, schema: &Json, document: &Json, at: &str) -> Option<String> {
        if let Some(name) = schema["$ref"].as_str() {
            let named = document.pointer(name.trim_start_matches('#')).expect("a known schema");
            return misfit(value, named, document, at);
        }
        let ways = |key: &str| schema[key].as_array().cloned();
        if let Some(ways) = ways("oneOf").or_else(|| ways("anyOf")) {
            let fits = |way: &Json| misfit(value, way, document, at).is_none();
            return (!ways.iter().any(fits))
                .then(|| format!("{at}: {value} fits none of its ways"));
        }
        if let Some(parts) = ways("allOf") {
            return parts.iter().find_map(|part| misfit(value, part, document, at));
        }
        let kind = match value {
            Json::Null => "null",
            Json::Bool(_) => "boolean",
            Json::Number(number) if number.is_f64() => "number",
            Json::Number(_) => "integer",
            Json::String(_) => "string",
            Json::Array(_) => "array",
            Json::Object(_) => "object",
        };
        let kinds = schema["type"].as_array().cloned().unwrap_or(vec![schema["type"].clone()]);
        let is_kind = |known: &Json| known == kind || (known == "number" && kind == "integer");
        if !kinds.iter().any(|known| known.is_null() || is_kind(known)) {
            return Some(format!("{at}: {value} is not {}", schema["type"]));
        }
        if let Some(words) = schema["enum"].as_array().filter(|words| !words.contains(value)) {
            return Some(format!("{at}: {value} is not one of {words:?}"));
        }
        if let (Json::Object(fields), Some(known)) = (value, schema["properties"].as_object()) {
            let required = schema["required"].as_array().into_iter().flatten();
            let missing =
                required.filter_map(Json::as_str).find(|name| !fields.contains_key(*name));
            return missing.map(|name| format!("{at}.{name} is missing")).or_else(|| {
                let known =
                    fields.iter().filter_map(|(name, value)| Some((name, value, known.get(name)?)));
                known.into_iter().find_map(|(name, value, schema)| {
                    misfit(value, schema, document, &format!("{at}.{name}"))
                })
            });
        }
        let items = value.as_array().into_iter().flatten();
        items.into_iter().find_map(|item| misfit(item, &schema["items"], document, at))
    }

    /// All properties that an object of `schema` may have.
    fn properties(schema: &Json, document: &Json) -> Vec<String> {
        if let Some(name) = schema["$ref"].as_str() {
            return properties(document.pointer(name.trim_start_matches('#')).unwrap(), document);
        }
        let parts = schema["allOf"].as_array().into_iter().flatten();
        let own =
            schema["properties"].as_object().into_iter().flat_map(|known| known.keys().cloned());
        parts.flat_map(|part| properties(part, document)).chain(own).collect()
    }

    #[test]
    fn every_json_body_has_an_example_that_fits_its_schema() {
        let document = serde_json::to_value(open_api()).unwrap();
        let mut checked = 0;
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let responses = operation["responses"].as_object().into_iter().flatten();
                let bodies = responses.map(|(status, response)| (status.as_str(), response));
                for (which, body) in bodies.chain([("request", &operation["requestBody"])]) {
                    let content = &body["content"]["application/json"];
                    if content.is_null() {
                        continue;
                    }
                    let at = format!("{method} {path} {which}");
                    let (schema, example) = (&content["schema"], &content["example"]);
                    if schema["$ref"] == "#/components/schemas/ErrorBody" {
                        continue; // it has examples of its own, and stands everywhere
                    }
                    assert!(!example.is_null(), "{at} has no example");
                    let misfit = misfit(example, schema, &document, &at);
                    assert!(misfit.is_none(), "{}", misfit.unwrap_or_default());
                    let known = properties(schema, &document);
                    let unknown = example.as_object().into_iter().flat_map(|fields| fields.keys());
                    let unknown: Vec<_> = unknown.filter(|name| !known.contains(name)).collect();
                    assert!(unknown.is_empty(), "{at} has no {unknown:?}");
                    checked += 1;
                }
            }
        }
        assert!(checked > 50, "{checked}");
    }

    #[test]
    fn no_example_is_of_a_schema_that_is_gone() {
        let document = serde_json::to_value(open_api()).unwrap();
        let examples: BTreeMap<String, Json> = serde_json::from_str(EXAMPLES).expect("JSON");
        for name in examples.keys() {
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
    }
}
