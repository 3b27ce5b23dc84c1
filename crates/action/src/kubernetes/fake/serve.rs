//! The server's addresses, and the form of its answers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};

use super::merge::{json_patch, merge, strategic};
use super::store::{Key, No, RESOURCES, Resource, World};
use super::table::table;
use super::{LOG, locked};

type Shared = Arc<Mutex<World>>;

/// A watch ends after so many steps, and is then asked for anew.
const WATCH_STEPS_MAX: u32 = 6_000;
const WATCH_STEP: Duration = Duration::from_millis(10);

#[derive(Clone)]
struct Door {
    world: Shared,
    token: Option<String>,
}

/// One request, understood.
struct Asked<'a> {
    method: Method,
    resource: Resource,
    namespace: String,
    name: String,
    part: &'a str,
    query: BTreeMap<String, String>,
    content: &'a str,
    body: Value,
}

pub(super) fn router(world: Shared, token: Option<String>) -> Router {
    Router::new().fallback(answer).with_state(Door { world, token })
}

async fn answer(State(door): State<Door>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    locked(&door.world).requests.push(format!("{method} {uri}"));
    let said = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if door.token.as_ref().is_some_and(|token| said != Some(&format!("Bearer {token}"))) {
        return refusal(&No::new(401, "Unauthorized", "Unauthorized"));
    }
    let path = uri.path().trim_end_matches('/').to_owned();
    if let Some(known) = discovery(&path) {
        return json_answer(StatusCode::OK, &known);
    }
    let content = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Some((resource, namespace, name, part)) = located(&path) else {
        return refusal(&No::new(404, "NotFound", "the server could not find the requested resource"));
    };
    if content.contains("protobuf") {
        return refusal(&No::new(415, "UnsupportedMediaType", "this server speaks JSON only"));
    }
    let body = if body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&body) };
    let Ok(body) = body else { return refusal(&No::new(400, "BadRequest", "the body of the request is not JSON")) };
    let asked = Asked { method, resource, namespace, name, part, query: query(&uri), content, body };
    if asked.method == Method::GET && asked.name.is_empty() && asked.is("watch") {
        return watch(&door.world, &asked);
    }
    if asked.part == "log" {
        return log(&locked(&door.world), &asked);
    }
    let done = served(&mut locked(&door.world), &asked);
    if asked.method != Method::GET && !asked.is_dry() && locked(&door.world).loses_an_answer() {
        let broken = stream::once(async { Err::<Bytes, _>(std::io::Error::other("the line is cut")) });
        return Body::from_stream(broken).into_response();
    }
    let wants = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_table = asked.method == Method::GET && asked.part.is_empty() && wants.split(',').next().unwrap_or("").contains("as=Table");
    match done {
        Ok((status, value)) if is_table => json_answer(status, &table(asked.resource.plural, &value)),
        Ok((status, value)) => json_answer(status, &value),
        Err(no) => refusal(&no),
    }
}

impl Asked<'_> {
    fn is(&self, flag: &str) -> bool {
        self.query.get(flag).is_some_and(|value| matches!(value.as_str(), "true" | "1"))
    }

    fn is_dry(&self) -> bool {
        let in_options = |options: &Value| options["dryRun"].as_array().is_some_and(|all| all.iter().any(|one| one == "All"));
        let in_query = self.query.get("dryRun").is_some_and(|value| value == "All");
        if self.method == Method::DELETE && !self.body.is_null() {
            return in_options(&self.body);
        }
        in_query || in_options(&self.body) || in_options(&self.body["deleteOptions"])
    }

    fn key(&self) -> Key {
        Key::of(self.resource.plural, &self.namespace, &self.name)
    }

    fn chooses(&self, object: &Value) -> bool {
        let labels = self.query.get("labelSelector").is_none_or(|wanted| by_labels(wanted, &object["metadata"]["labels"]));
        labels && self.query.get("fieldSelector").is_none_or(|wanted| by_fields(wanted, object))
    }
}

fn json_answer(status: StatusCode, value: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

fn refusal(no: &No) -> Response {
    let status = StatusCode::from_u16(no.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    json_answer(
        status,
        &json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": no.message,
            "reason": no.reason,
            "details": {"causes": no.causes},
            "code": no.status,
        }),
    )
}

/// `/api/v1/namespaces/shop/pods/web-1/eviction` in its parts.
fn located(path: &str) -> Option<(Resource, String, String, &str)> {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        rest => ("", rest),
    };
    let (plural, name, part) = match rest {
        [plural] => (*plural, "", ""),
        [plural, name] => (*plural, *name, ""),
        [plural, name, part] => (*plural, *name, *part),
        _ => return None,
    };
    let fits = |resource: &&Resource| resource.group == group && resource.version == version && resource.plural == plural;
    let resource = RESOURCES.iter().find(fits)?;
    // A write needs a namespace; a list over all of them does not.
    let is_whole = namespace.is_empty() && (!resource.namespaced || name.is_empty());
    (is_whole || resource.namespaced).then(|| (*resource, namespace.to_owned(), name.to_owned(), part_of(path, part)))
}

fn part_of<'p>(path: &'p str, part: &str) -> &'p str {
    if part.is_empty() { "" } else { path.rsplit('/').next().unwrap_or("") }
}

fn query(uri: &Uri) -> BTreeMap<String, String> {
    let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), unescaped(value))).collect()
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                u8::from_str_radix(&String::from_utf8_lossy(&digits), 16).unwrap_or(b'?')
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn by_labels(wanted: &str, labels: &Value) -> bool {
    let mut rest = wanted.trim();
    while !rest.is_empty() {
        // A comma inside of parentheses does not end a part.
        let mut depth = 0;
        let end = rest.find(|letter| {
            depth += i32::from(letter == '(') - i32::from(letter == ')');
            letter == ',' && depth == 0
        });
        let (part, after) = end.map_or((rest, ""), |end| (&rest[..end], &rest[end + 1..]));
        if !by_label(part.trim(), labels) {
            return false;
        }
        rest = after.trim();
    }
    true
}

fn by_label(part: &str, labels: &Value) -> bool {
    let had = |key: &str| labels[key.trim()].as_str();
    let listed = |list: &str, had: Option<&str>| list.trim_matches(['(', ')', ' ']).split(',').any(|one| Some(one.trim()) == had);
    if let Some((key, list)) = part.split_once(" notin ") {
        return !listed(list, had(key));
    }
    if let Some((key, list)) = part.split_once(" in ") {
        return listed(list, had(key));
    }
    if let Some((key, value)) = part.split_once("!=") {
        return had(key) != Some(value.trim());
    }
    if let Some((key, value)) = part.split_once('=') {
        return had(key) == Some(value.trim_start_matches('=').trim());
    }
    part.strip_prefix('!').map_or_else(|| had(part).is_some(), |key| had(key).is_none())
}

fn by_fields(wanted: &str, object: &Value) -> bool {
    wanted.split(',').filter(|part| !part.is_empty()).all(|part| {
        let (path, value, is_equal) = match part.split_once("!=") {
            Some((path, value)) => (path, value, false),
            None => {
                let (path, value) = part.split_once('=').unwrap_or((part, ""));
                (path, value.trim_start_matches('='), true)
            }
        };
        let had = object.pointer(&format!("/{}", path.replace('.', "/"))).and_then(Value::as_str).unwrap_or_default();
        (had == value) == is_equal
    })
}

fn served(world: &mut World, asked: &Asked<'_>) -> Result<(StatusCode, Value), No> {
    let ok = |value| Ok((StatusCode::OK, value));
    let dry = asked.is_dry();
    let key = asked.key();
    if !dry && matches!(asked.method.as_str(), "PATCH" | "PUT" | "DELETE") {
        let other = world.meddling.pop_front().zip(world.get(&key).cloned());
        if let Some((meddle, mut object)) = other {
            meddle(&mut object);
            world.add(object);
        }
    }
    match (asked.method.as_str(), asked.name.is_empty(), asked.part) {
        ("GET", true, "") => list(world, asked),
        ("GET", false, "" | "status") => ok(world.get(&key).cloned().ok_or_else(|| No::not_found(&key))?),
        ("POST", true, "") => {
            let name = asked.body["metadata"]["name"].as_str().unwrap_or_default();
            let key = Key { name: name.to_owned(), ..key };
            Ok((StatusCode::CREATED, world.create(&key, asked.body.clone(), dry)?))
        }
        ("PUT", false, "") => ok(world.update(&key, asked.body.clone(), dry)?),
        ("PATCH", false, "") => {
            let mut object = world.get(&key).cloned().ok_or_else(|| No::not_found(&key))?;
            // The version counts only when the patch itself says one.
            object["metadata"].as_object_mut().map(|metadata| metadata.remove("resourceVersion"));
            patched(&mut object, asked)?;
            ok(world.update(&key, object, dry)?)
        }
        ("DELETE", false, "") => ok(world.delete(&key, &asked.body["preconditions"], dry)?),
        ("POST", false, "eviction") if asked.resource.plural == "pods" => evict(world, asked),
        (_, false, "scale") if matches!(asked.resource.plural, "deployments" | "statefulsets") => scale(world, asked),
        _ => Err(No::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")),
    }
}

fn log(world: &World, asked: &Asked<'_>) -> Response {
    let Some(pod) = world.get(&asked.key()) else { return refusal(&No::not_found(&asked.key())) };
    let text = pod["metadata"]["annotations"][LOG].as_str().unwrap_or("listening").to_owned();
    ([(header::CONTENT_TYPE, "text/plain")], text + "\n").into_response()
}

fn list(world: &World, asked: &Asked<'_>) -> Result<(StatusCode, Value), No> {
    let all: Vec<&Value> = world.all(asked.resource.plural, &asked.namespace).filter(|object| asked.chooses(object)).collect();
    let begin = asked.query.get("continue").and_then(|text| text.parse::<usize>().ok()).unwrap_or(0).min(all.len());
    let limit = asked.query.get("limit").and_then(|text| text.parse::<usize>().ok()).filter(|limit| *limit > 0).unwrap_or(all.len());
    let end = (begin + limit).min(all.len());
    let mut metadata = json!({"resourceVersion": world.version.to_string()});
    if end < all.len() {
        metadata["continue"] = json!(end.to_string());
        let is_plain = !asked.query.keys().any(|key| key.ends_with("Selector"));
        if is_plain {
            metadata["remainingItemCount"] = json!(all.len() - end);
        }
    }
    let kind = format!("{}List", asked.resource.kind);
    Ok((
        StatusCode::OK,
        json!({"kind": kind, "apiVersion": asked.resource.group_version(), "metadata": metadata, "items": &all[begin..end]}),
    ))
}

fn patched(object: &mut Value, asked: &Asked<'_>) -> Result<(), No> {
    let bad = |why: String| No::new(400, "BadRequest", why);
    match (asked.content, &asked.body) {
        ("application/merge-patch+json", patch) => {
            merge(object, patch);
            Ok(())
        }
        ("application/strategic-merge-patch+json", Value::Object(patch)) => strategic(object, patch).map_err(bad),
        ("application/json-patch+json", Value::Array(operations)) => json_patch(object, operations)
            .map_err(|why| No::new(422, "Invalid", format!("the server rejected our request due to an error in our request: {why}"))),
        (other, _) => Err(No::new(415, "UnsupportedMediaType", format!("the body of the request was in an unknown format: {other}"))),
    }
}

fn scale(world: &mut World, asked: &Asked<'_>) -> Result<(StatusCode, Value), No> {
    let key = asked.key();
    let mut object = world.get(&key).cloned().ok_or_else(|| No::not_found(&key))?;
    let mut scale = scale_of(&object);
    match asked.method.as_str() {
        "GET" => return Ok((StatusCode::OK, scale)),
        "PUT" => scale = asked.body.clone(),
        "PATCH" => {
            scale["metadata"].as_object_mut().map(|metadata| metadata.remove("resourceVersion"));
            patched(&mut scale, asked)?;
        }
        _ => return Err(No::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")),
    }
    object["spec"]["replicas"] = scale["spec"]["replicas"].clone();
    object["metadata"]["resourceVersion"] = scale["metadata"]["resourceVersion"].clone();
    world.update(&key, object, asked.is_dry()).map(|object| (StatusCode::OK, scale_of(&object)))
}

fn scale_of(object: &Value) -> Value {
    let metadata = &object["metadata"];
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]},
        "spec": {"replicas": object["spec"]["replicas"]},
        "status": {"replicas": object["status"]["replicas"]},
    })
}

fn evict(world: &mut World, asked: &Asked<'_>) -> Result<(StatusCode, Value), No> {
    let key = asked.key();
    let pod = world.get(&key).cloned().ok_or_else(|| No::not_found(&key))?;
    if let Some(budget) = world.forbidding(&pod) {
        let (name, status) = (budget["metadata"]["name"].as_str().unwrap_or_default(), &budget["status"]);
        let why = format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            status["desiredHealthy"], status["currentHealthy"]
        );
        let mut no = No::new(429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.");
        no.causes.push(json!({"reason": "DisruptionBudget", "message": why}));
        return Err(no);
    }
    world.delete(&key, &asked.body["deleteOptions"]["preconditions"], asked.is_dry())?;
    Ok((StatusCode::CREATED, json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})))
}

/// Changes since a version, as they come.
fn watch(world: &Shared, asked: &Asked<'_>) -> Response {
    if asked.is("sendInitialEvents") {
        return refusal(&No::new(422, "Invalid", "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"));
    }
    let since = asked.query.get("resourceVersion").and_then(|text| text.parse().ok()).unwrap_or(0);
    let seconds = asked.query.get("timeoutSeconds").and_then(|text| text.parse::<u32>().ok()).unwrap_or(60);
    let steps = (seconds.saturating_mul(100)).min(WATCH_STEPS_MAX);
    let (world, query, key) = (Arc::clone(world), asked.query.clone(), asked.key());
    let events = stream::unfold((since, steps), move |(since, steps)| {
        let (world, query, key) = (Arc::clone(&world), query.clone(), key.clone());
        async move {
            let steps = steps.checked_sub(1)?;
            tokio::time::sleep(WATCH_STEP).await;
            let world = locked(&world);
            let mut lines = String::new();
            let after = world.history.partition_point(|one| one.version <= since);
            for one in &world.history[after..] {
                let is_here = one.key.plural == key.plural && (key.namespace.is_empty() || one.key.namespace == key.namespace);
                let chosen = query.get("labelSelector").is_none_or(|wanted| by_labels(wanted, &one.object["metadata"]["labels"]))
                    && query.get("fieldSelector").is_none_or(|wanted| by_fields(wanted, &one.object));
                if is_here && chosen {
                    lines.push_str(&json!({"type": one.what, "object": one.object}).to_string());
                    lines.push('\n');
                }
            }
            let seen = world.history.last().map_or(since, |one| one.version.max(since));
            Some((Ok::<_, std::io::Error>(Bytes::from(lines)), (seen, steps)))
        }
    });
    ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(events)).into_response()
}

/// What the server can do, for clients that ask before they speak.
fn discovery(path: &str) -> Option<Value> {
    let groups = || {
        let mut names: Vec<(&str, &str)> =
            RESOURCES.iter().filter(|one| !one.group.is_empty()).map(|one| (one.group, one.version)).collect();
        names.dedup();
        names
    };
    let group = |(name, version): (&str, &str)| {
        let version = json!({"groupVersion": format!("{name}/{version}"), "version": version});
        json!({"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": [version], "preferredVersion": version})
    };
    match path {
        "/version" => Some(json!({"major": "1", "minor": "32", "gitVersion": "v1.32.0", "platform": "linux/amd64"})),
        "/api" => Some(json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})),
        "/apis" => Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups().into_iter().map(group).collect::<Vec<_>>()})),
        "/api/v1" => Some(resource_list("", "v1")),
        path => {
            let parts: Vec<&str> = path.trim_start_matches("/apis/").split('/').collect();
            let is_known = |wanted: &str| groups().into_iter().find(|(name, _)| *name == wanted);
            match parts.as_slice() {
                [name] => is_known(name).map(group),
                [name, version] => is_known(name).filter(|(_, known)| known == version).map(|_| resource_list(name, version)),
                _ => None,
            }
        }
    }
}

fn resource_list(group: &str, version: &str) -> Value {
    let verbs = json!(["create", "delete", "get", "list", "patch", "update", "watch"]);
    let mut resources = Vec::new();
    let mut group_version = version.to_owned();
    for one in RESOURCES.iter().filter(|one| one.group == group && one.version == version) {
        group_version = one.group_version();
        let names = if one.short.is_empty() { json!([]) } else { json!([one.short]) };
        let singular = one.kind.to_ascii_lowercase();
        resources.push(json!({"name": one.plural, "singularName": singular, "namespaced": one.namespaced, "kind": one.kind, "verbs": verbs, "shortNames": names}));
        match one.plural {
            "pods" => resources.push(json!({"name": "pods/eviction", "singularName": "", "namespaced": true, "group": "policy", "version": "v1", "kind": "Eviction", "verbs": ["create"]})),
            "deployments" | "statefulsets" => resources.push(json!({
                "name": format!("{}/scale", one.plural), "singularName": "", "namespaced": true, "group": "autoscaling", "version": "v1", "kind": "Scale", "verbs": ["get", "patch", "update"]
            })),
            _ => {}
        }
    }
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources})
}
