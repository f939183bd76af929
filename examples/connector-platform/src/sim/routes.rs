//! The routes of each platform, as far as the connectors use them; any other is answered with 501.

use provision_adapters::{
    http::format_rfc3339,
    sim::{SimRequest, SimResponse, SimTime},
};
use provision_core::Timestamp;
use serde_json::{Value, json};

use super::world::{Denied, Token, World};
use crate::{forms, platform::PlatformName};

/// How each platform words an error.
pub(super) fn refusal(name: PlatformName, status: u16, word: &str, code: u32) -> SimResponse {
    let body = match name {
        PlatformName::Meta => json!({ "error": { "message": word, "code": code } }),
        PlatformName::LinkedIn => json!({ "message": word, "status": status }),
        PlatformName::TikTok => json!({ "error": { "code": word, "message": "" } }),
        PlatformName::Gbp => json!({ "error": { "code": status, "status": word } }),
        PlatformName::Mailchimp => json!({ "title": word, "status": status, "detail": "" }),
    };
    SimResponse::json(status, &body)
}

pub(super) fn answer(
    name: PlatformName,
    world: &mut World,
    request: &SimRequest,
    now: SimTime,
) -> SimResponse {
    let segments = request.segments();
    let is_token = matches!(
        (name, &*segments),
        (PlatformName::Meta, [_, "oauth", "access_token"])
            | (PlatformName::LinkedIn, ["oauth", "v2", "accessToken"])
            | (PlatformName::TikTok, ["v2", "oauth", "token"])
            | (PlatformName::Gbp, ["token"])
            | (PlatformName::Mailchimp, ["oauth2", "token"])
    );
    let form = || forms::fields(&String::from_utf8_lossy(&request.body));
    if is_token && request.method == "POST" {
        return match world.grant(&form(), now) {
            Ok(token) => SimResponse::json(200, &tokens(name, &token, now)),
            Err(Denied::Client) => SimResponse::json(401, &json!({ "error": "invalid_client" })),
            Err(Denied::Grant) => SimResponse::json(400, &json!({ "error": "invalid_grant" })),
        };
    }
    if let [.., "revoke"] = &*segments {
        if let Some((_, token)) = form().iter().find(|(name, _)| name == "token") {
            world.revoke(token);
        }
        return SimResponse::json(200, &json!({}));
    }
    if !world.admits(request, now) {
        return refusal(name, 401, "access_token_invalid", 190);
    }
    let answer = match name {
        PlatformName::Meta => meta(world, request, now),
        PlatformName::LinkedIn => linkedin(world, request, now),
        PlatformName::TikTok => tiktok(world, request, now),
        PlatformName::Gbp => gbp(world, request, now),
        PlatformName::Mailchimp => mailchimp(world, request, now),
    };
    answer.unwrap_or_else(|| SimResponse::unhandled(request))
}

fn tokens(name: PlatformName, token: &Token, now: SimTime) -> Value {
    let lifetime = token.expires.saturating_sub(now).as_secs();
    let gives_refresh = match name {
        PlatformName::Meta | PlatformName::Mailchimp => false,
        // Google gives one with the consent alone.
        PlatformName::Gbp => !token.is_refreshed(),
        PlatformName::LinkedIn | PlatformName::TikTok => true,
    };
    // One that is not given is told as null, which is read as none.
    json!({
        "access_token": token.access,
        "token_type": "bearer",
        "refresh_token": gives_refresh.then_some(&token.refresh),
        "expires_in": if name == PlatformName::Mailchimp { 0 } else { lifetime },
    })
}

fn ok(body: &Value) -> Option<SimResponse> {
    Some(SimResponse::json(200, body))
}

fn gone(name: PlatformName) -> Option<SimResponse> {
    Some(refusal(name, 404, "not_found", 100))
}

/// The most that a page of a platform has, whatever is asked for.
const fn most_of(name: PlatformName) -> usize {
    match name {
        PlatformName::Meta | PlatformName::LinkedIn | PlatformName::Gbp => 100,
        PlatformName::TikTok => 20,
        PlatformName::Mailchimp => 1_000,
    }
}

/// One page, from where the caller left off; and where the next one begins, if there is one.
fn page(
    name: PlatformName,
    shown: impl Iterator<Item = Value>,
    (from, most): (Option<&str>, &str),
) -> (Vec<Value>, Option<usize>) {
    let from = from.and_then(|from| from.parse().ok()).unwrap_or(0);
    let most = most.parse().unwrap_or(0).min(most_of(name));
    let mut page: Vec<Value> = shown.skip(from).take(most.saturating_add(1)).collect();
    let next = (page.len() > most).then_some(from + most);
    page.truncate(most);
    (page, next)
}

fn text_of(request: &SimRequest, field: &str) -> String {
    let body: Value = request.json().unwrap_or_default();
    body.pointer(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn meta(world: &mut World, request: &SimRequest, now: SimTime) -> Option<SimResponse> {
    match (&*request.method, &*request.segments()) {
        ("DELETE", [_, "me", "permissions"]) => {
            world.revoke(request.bearer().unwrap_or_default());
            ok(&json!({ "success": true }))
        }
        ("GET", [_, "me", "accounts"]) => {
            ok(&meta_page(world.accounts.iter().map(|account| json!(account)), request))
        }
        ("POST", [_, account, "feed"]) => {
            let text = text_of(request, "/message");
            let post = world.add_post(request, (account, &text), true, now);
            ok(&json!({ "id": post.id }))
        }
        ("GET", [_, account, "feed"]) => {
            let shown = world.listed(account, now).map(|post| {
                json!({
                    "id": post.id, "message": post.text, "created_time": post.made_at.as_secs(),
                })
            });
            ok(&meta_page(shown, request))
        }
        ("GET", [_, post, "insights"]) => {
            if world.post(post).is_none() {
                return gone(PlatformName::Meta);
            }
            let names = ["post_impressions", "post_reactions_by_type_total", "post_clicks"];
            let of =
                |(place, name)| json!({ "name": name, "values": [{ "value": 30 - 10 * place }] });
            ok(&json!({ "data": (0..3).zip(names).map(of).collect::<Vec<_>>() }))
        }
        ("DELETE", [_, post]) if world.delete(post) => ok(&json!({ "success": true })),
        ("DELETE", [_, _]) => gone(PlatformName::Meta),
        _ => None,
    }
}

/// A page of the Graph API: behind the last one stands a cursor as well, and no address.
fn meta_page(shown: impl Iterator<Item = Value>, request: &SimRequest) -> Value {
    let asked = (request.q("after"), request.q("limit").unwrap_or("25"));
    let (data, next) = page(PlatformName::Meta, shown, asked);
    let paging = match next {
        Some(next) => {
            json!({ "cursors": { "after": next.to_string() }, "next": "https://next" })
        }
        None => json!({ "cursors": { "after": "end" } }),
    };
    json!({ "data": data, "paging": paging })
}

fn linkedin(world: &mut World, request: &SimRequest, now: SimTime) -> Option<SimResponse> {
    match (&*request.method, &*request.segments()) {
        ("GET", ["rest", "organizationAcls"]) => {
            let role = |account: &crate::platform::Account| json!({ "organization": account.id, "organizationName": account.name });
            let asked = (request.q("start"), request.q("count").unwrap_or("10"));
            let shown = world.accounts.iter().map(role);
            let (elements, next) = page(PlatformName::LinkedIn, shown, asked);
            let links: Vec<_> = next.iter().map(|_| json!({ "rel": "next" })).collect();
            ok(&json!({ "elements": elements, "paging": { "links": links } }))
        }
        ("POST", ["rest", "posts"]) => {
            let (author, text) = (text_of(request, "/author"), text_of(request, "/commentary"));
            let post = world.add_post(request, (&author, &text), true, now);
            Some(SimResponse::empty(201).header("x-restli-id", &post.id))
        }
        ("GET", ["rest", "posts"]) => {
            let shown = world.listed(request.q("author")?, now).map(|post| {
                let made = u64::try_from(post.made_at.as_millis()).unwrap_or(u64::MAX);
                json!({ "id": post.id, "commentary": post.text, "createdAt": made })
            });
            let asked = (request.q("start"), request.q("count").unwrap_or("10"));
            ok(&json!({ "elements": page(PlatformName::LinkedIn, shown, asked).0 }))
        }
        ("DELETE", ["rest", "posts", post]) if world.delete(post) => Some(SimResponse::empty(204)),
        ("DELETE", ["rest", "posts", _]) => gone(PlatformName::LinkedIn),
        ("GET", ["rest", "organizationalEntityShareStatistics"]) => {
            let totals = json!({ "impressionCount": 30, "likeCount": 20, "clickCount": 10 });
            ok(&json!({ "elements": [{ "totalShareStatistics": totals }] }))
        }
        _ => None,
    }
}

fn tiktok(world: &mut World, request: &SimRequest, now: SimTime) -> Option<SimResponse> {
    // A token is of one user here, and a user is an account.
    let account = world.accounts.first()?.clone();
    let fine = json!({ "code": "ok" });
    match (&*request.method, &*request.segments()) {
        ("GET", ["v2", "user", "info"]) => {
            let user = json!({ "open_id": account.id, "display_name": account.name });
            ok(&json!({ "data": { "user": user }, "error": fine }))
        }
        ("POST", ["v2", "post", "publish", "video", "init"]) => {
            let text = text_of(request, "/post_info/title");
            let post = world.add_post(request, (&account.id, &text), false, now);
            ok(&json!({ "data": { "publish_id": format!("v{}", post.id) }, "error": fine }))
        }
        ("POST", ["v2", "post", "publish", "status", "fetch"]) => {
            let id = text_of(request, "/publish_id");
            let data = match world.post(id.trim_start_matches('v')) {
                Some(post) if post.is_out(now) => json!({
                    "status": "PUBLISH_COMPLETE",
                    "publicaly_available_post_id": [post.id.parse::<u64>().unwrap_or(0)],
                }),
                Some(post) if post.failed => json!({ "status": "FAILED" }),
                Some(_) => json!({ "status": "PROCESSING_DOWNLOAD" }),
                None => return Some(refusal(PlatformName::TikTok, 404, "not_found", 0)),
            };
            ok(&json!({ "data": data, "error": fine }))
        }
        ("POST", ["v2", "video", way @ ("list" | "query")]) => {
            let body: Value = request.json().unwrap_or_default();
            let number = |field: &str| Some(body.get(field)?.as_u64()?.to_string());
            let most = number("max_count");
            let cursor = number("cursor");
            let shown = world.listed(&account.id, now).filter(|post| post.is_out(now));
            let shown = shown.map(|post| {
                json!({
                    "id": post.id, "title": post.text,
                    "create_time": post.made_at.as_secs(), "view_count": 30, "like_count": 20, "share_count": 10,
                })
            });
            let (videos, next) = match *way {
                "list" => {
                    let asked = (cursor.as_deref(), most.as_deref().unwrap_or("10"));
                    page(PlatformName::TikTok, shown, asked)
                }
                // Asked by their ids, all of them are shown.
                _ => (shown.collect(), None),
            };
            let data = json!({ "videos": videos, "cursor": next.unwrap_or(0), "has_more": next.is_some() });
            ok(&json!({ "data": data, "error": fine }))
        }
        _ => None,
    }
}

fn gbp(world: &mut World, request: &SimRequest, now: SimTime) -> Option<SimResponse> {
    let path = request.path.join("/");
    let parent = || {
        let path = path.strip_prefix("v4/")?;
        path.strip_suffix("/localPosts").map(ToOwned::to_owned)
    };
    match (&*request.method, &*request.segments()) {
        ("GET", ["v1", "accounts", "-", "locations"]) => {
            let location = |account: &crate::platform::Account| json!({ "name": account.id, "title": account.name });
            let asked = (request.q("pageToken"), request.q("pageSize").unwrap_or("10"));
            let shown = world.accounts.iter().map(location);
            let (locations, next) = page(PlatformName::Gbp, shown, asked);
            ok(&json!({ "locations": locations, "nextPageToken": next.map(|n| n.to_string()) }))
        }
        ("POST", ["v4", .., "localPosts"]) => {
            let text = text_of(request, "/summary");
            let post = world.add_post(request, (&parent()?, &text), true, now);
            ok(&json!({ "name": post.id, "summary": post.text, "state": "LIVE" }))
        }
        ("GET", ["v4", .., "localPosts"]) => {
            let parent = parent()?;
            let shown = world.listed(&parent, now);
            let shown = shown.map(|post| json!({ "name": post.id, "summary": post.text }));
            let asked = (request.q("pageToken"), request.q("pageSize").unwrap_or("20"));
            let (posts, next) = page(PlatformName::Gbp, shown, asked);
            ok(&json!({ "localPosts": posts, "nextPageToken": next.map(|n| n.to_string()) }))
        }
        ("POST", ["v4", .., "localPosts:reportInsights"]) => {
            let value = |metric, count: u32| json!({ "metric": metric, "totalValue": { "value": count.to_string() } });
            let values = [
                value("LOCAL_POST_VIEWS_SEARCH", 30),
                value("LOCAL_POST_ACTIONS_CALL_TO_ACTION", 10),
            ];
            ok(&json!({ "localPostMetrics": [{ "metricValues": values }] }))
        }
        ("DELETE", ["v4", .., "localPosts", _]) => {
            if world.delete(path.strip_prefix("v4/")?) {
                return ok(&json!({}));
            }
            gone(PlatformName::Gbp)
        }
        _ => None,
    }
}

fn mailchimp(world: &mut World, request: &SimRequest, now: SimTime) -> Option<SimResponse> {
    let shown = |post: &super::world::Post| {
        let status = match post.out_at {
            None => "save",
            Some(_) if post.is_out(now) => "sent",
            Some(_) => "sending",
        };
        let made = u64::try_from(post.made_at.as_millis()).unwrap_or(u64::MAX);
        let made = format_rfc3339(Timestamp::from_millis(made));
        let settings = json!({ "title": post.text });
        json!({ "id": post.id, "status": status, "create_time": made, "settings": settings })
    };
    let asked = || (request.q("offset"), request.q("count").unwrap_or("10"));
    match (&*request.method, &*request.segments()) {
        ("GET", ["3.0", "lists"]) => {
            let lists = world.accounts.iter().map(|account| json!(account));
            let (lists, _) = page(PlatformName::Mailchimp, lists, asked());
            ok(&json!({ "lists": lists, "total_items": world.accounts.len() }))
        }
        ("POST", ["3.0", "campaigns"]) => {
            let list = text_of(request, "/recipients/list_id");
            let title = text_of(request, "/settings/title");
            let post = world.add_post(request, (&list, &title), false, now);
            ok(&shown(&post))
        }
        ("GET", ["3.0", "campaigns"]) => {
            let listed = || world.listed(request.q("list_id").unwrap_or_default(), now);
            let (campaigns, _) = page(PlatformName::Mailchimp, listed().map(shown), asked());
            ok(&json!({ "campaigns": campaigns, "total_items": listed().count() }))
        }
        ("GET", ["3.0", "campaigns", id]) => match world.post(id) {
            Some(post) => ok(&shown(post)),
            None => gone(PlatformName::Mailchimp),
        },
        ("PUT", ["3.0", "campaigns", id, "content"]) => {
            world.post(id)?.written = true;
            ok(&json!({}))
        }
        ("POST", ["3.0", "campaigns", id, "actions", "send"]) => {
            if world.send(id, now) {
                return Some(SimResponse::empty(204));
            }
            Some(refusal(PlatformName::Mailchimp, 400, "already sent or not ready", 0))
        }
        ("DELETE", ["3.0", "campaigns", id]) if world.delete(id) => Some(SimResponse::empty(204)),
        ("DELETE", ["3.0", "campaigns", _]) => gone(PlatformName::Mailchimp),
        ("GET", ["3.0", "reports", _]) => ok(&json!({
            "emails_sent": 30, "opens": { "opens_total": 20 }, "clicks": { "clicks_total": 10 },
        })),
        _ => None,
    }
}
