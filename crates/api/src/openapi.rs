//! The OpenAPI 3.1 document, derived from the registry.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::error::ErrorBody;
use crate::registry::{Method, Operation, Permission, operations};

/// The whole document. The same registry gives the same text.
#[must_use]
pub fn document(version: &str) -> Value {
    let mut generator =
        SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = "/components/schemas".into()).into_generator();
    let error = generator.subschema_for::<ErrorBody>();
    let mut paths = Map::new();
    for operation in operations() {
        let (method, item) = describe(&operation, &mut generator);
        let path = paths.entry(operation.template()).or_insert_with(|| json!({}));
        path[method] = item;
    }
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Paramedic",
            "version": version,
            "description": "Incident response for fleets of AI agents. Times are RFC 3339 in UTC; names are snake_case. Paths whose last parameter is an agent's id take slashes in it as they are.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": { "Error": { "description": "What was wrong and what to do next.", "content": { "application/json": { "schema": error } } } },
        },
    })
}

fn describe(operation: &Operation, generator: &mut SchemaGenerator) -> (&'static str, Value) {
    let input = operation.input_schema(generator).to_value();
    let output = operation.output_schema(generator).to_value();
    let in_path: Vec<&str> = operation.path_parameters().collect();
    let mut item = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.id.split('.').next().unwrap_or(operation.id)],
        "x-permission": operation.permission.as_str(),
        "responses": {
            "200": { "description": "Done.", "content": { "application/json": { "schema": output } } },
            "default": { "$ref": "#/components/responses/Error" },
        },
    });
    let (parameters, rest) = split(input, &in_path, operation.method);
    if !parameters.is_empty() {
        item["parameters"] = parameters.into();
    }
    if operation.permission == Permission::Write {
        item["description"] = "Name who acts in the header X-Paramedic-Actor.".into();
    }
    if let Some(body) = rest {
        item["requestBody"] = json!({ "content": { "application/json": { "schema": body } } });
    }
    (if operation.method == Method::Get { "get" } else { "post" }, item)
}

/// Takes an input type's properties apart: those in the path, and the rest as query (reads) or body (writes).
fn split(mut input: Value, in_path: &[&str], method: Method) -> (Vec<Value>, Option<Value>) {
    let required: Vec<String> = input["required"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let properties = input["properties"].as_object().cloned().unwrap_or_default();
    let mut parameters = Vec::new();
    let mut body = Map::new();
    for (name, mut schema) in properties {
        let place = if in_path.contains(&name.as_str()) {
            "path"
        } else if method == Method::Get {
            "query"
        } else {
            body.insert(name, schema);
            continue;
        };
        let description = schema.as_object_mut().and_then(|schema| schema.remove("description")).unwrap_or_default();
        let needed = place == "path" || required.contains(&name);
        parameters.push(json!({ "name": name, "in": place, "required": needed, "description": description, "schema": schema }));
    }
    if body.is_empty() {
        return (parameters, None);
    }
    let needed: Vec<String> = required.into_iter().filter(|name| body.contains_key(name)).collect();
    input["properties"] = Value::Object(body);
    input["required"] = needed.into();
    (parameters, Some(input))
}
