//! Conditions as the server prints them, and bodies as authors write them.

use super::super::names::Relation;
use super::{Body, Judgement, Known, Leaf, Must, proof};

/// What the database says of leaves when nobody is signed in.
fn unsigned(leaf: &Leaf) -> Judgement {
    let text = &*leaf.expression;
    let is_null = text.contains("auth.uid()") && !text.contains("IS NULL");
    let is_true = text.contains("IS NULL")
        || ["true", "1 = 1", "select true"].contains(&text)
        || text.contains("'anon'");
    match leaf.must {
        Must::BeNull if is_null => Judgement::Closed,
        Must::BeNull => Judgement::Unclear,
        Must::NotBeTrue if is_true => Judgement::Open,
        Must::NotBeTrue => Judgement::Closed,
    }
}

fn judge(condition: &str) -> Judgement {
    let body = |name: &str, source: &str| Body {
        name: Relation::new("app", name),
        source: source.to_owned(),
    };
    let bodies = [
        body(
            "is_member",
            "select exists (select 1 from app.m where m.id = $1 and m.who = auth.uid())",
        ),
        body("visible", "select wanted is not null"),
        body("half", "select exists (select 1 from app.m where m.open or m.who = auth.uid())"),
        body("counts", "select count(*) = 0 from app.m where m.who = auth.uid()"),
        body("block", "begin return owner = auth.uid(); end;"),
        body("branches", "begin if id is null then return false; end if; return true; end"),
        body("as_owner", "select current_user = 'postgres' and id > 0"),
        body("calls", "select app.is_member(wanted) or app.block(owner)"),
        body("itself", "select app.itself(wanted)"),
        body(
            "role_of",
            "select m.role from app.m where m.id = wanted and m.who = auth.uid() limit 1",
        ),
        body("twice", "select auth.uid() = owner"),
        body("twice", "select true"),
    ];
    let closed = |relation: &Relation| *relation == Relation::new("public", "members");
    proof(&Known { bodies: &bodies, closed: &closed }, condition).judge(&unsigned)
}

// covers: X11
#[test]
fn what_the_reader_alone_makes_fail_is_closed() {
    let cases = [
        "(auth.uid() = owner)",
        "(( SELECT auth.uid() AS uid) = owner)",
        "((owner)::text = (auth.uid())::text)",
        "(auth.uid() IS NOT NULL)",
        "((auth.uid() = owner) OR app.is_member(id))",
        "(published AND (auth.uid() = owner) AND (id > 0))",
        "(NOT (auth.uid() <> owner))",
        "((auth.uid() = owner) IS TRUE)",
        "COALESCE((auth.uid() = owner), false)",
        "(owner IN ( SELECT auth.uid() AS uid))",
        "(id IN ( SELECT m.id FROM app.m WHERE (m.who = auth.uid())))",
        "(auth.uid() = ANY (members))",
        "(EXISTS ( SELECT 1 FROM public.members m WHERE (m.open OR (m.post = posts.id))))",
        "(EXISTS ( SELECT 1 FROM (app.a JOIN public.members m ON ((m.id = a.id)))))",
        "(CURRENT_USER = 'authenticated'::name)",
        "((name)::text ~~ (auth.uid())::text)",
        "app.block(owner)",
        "app.calls(id, owner)",
        "((app.role_of(id))::text = 'editor'::text)",
        "false",
        "\"app\".\"is_member\"(id)",
    ];
    for condition in cases {
        assert_eq!(judge(condition), Judgement::Closed, "{condition}");
    }
}

// covers: X11
#[test]
fn a_part_that_does_not_ask_who_is_there_opens_the_row() {
    let cases = [
        "true",
        "(1 = 1)",
        "published",
        "(id IS NOT NULL)",
        "(lower(kind) = 'auth.uid()'::text)",
        "((title)::text <> 'select one'::text)",
        "(published OR (auth.uid() = owner))",
        "((id > 0) OR (auth.uid() = owner))",
        "((auth.uid() = owner) OR (published AND (id > 0)))",
        "((auth.uid() IS NULL) OR (auth.uid() = owner))",
        "COALESCE((auth.uid() = owner), published)",
        "(EXISTS ( SELECT 1 FROM public.shelves s WHERE (s.post = posts.id)))",
        "(CURRENT_USER = 'anon'::name)",
        "(SESSION_USER = 'authenticator'::name)",
        "app.visible(id)",
        "app.half(id)",
        "app.twice(id)",
    ];
    for condition in cases {
        assert_eq!(judge(condition), Judgement::Open, "{condition}");
    }
}

// covers: X11
#[test]
fn what_cannot_be_taken_apart_is_not_closed() {
    let cases = [
        "(owner IS DISTINCT FROM auth.uid())",
        "(NOT (id IN ( SELECT m.id FROM app.m WHERE (m.who = auth.uid()))))",
        "((id > 0) = (auth.uid() IS NULL))",
        "(CASE WHEN (auth.uid() = owner) THEN true ELSE (id > 0) END)",
        "((auth.uid() = owner) IS NOT TRUE)",
        "(NOT ((auth.uid() = owner) AND published))",
        "(id BETWEEN 1 AND app.is_member(2))",
        "((tags || auth.uid()) = tags)",
        "(NOT (auth.uid() = ALL (members)))",
        "(owner = (CURRENT_USER)::text)",
        "(EXISTS ( SELECT count(*) AS count FROM app.m WHERE (m.who = auth.uid())))",
        "(EXISTS ( SELECT 1 FROM (app.a LEFT JOIN public.members m ON ((m.id = auth.uid())))))",
        "(current_setting('request.method'::text, true) = 'GET'::text)",
        "app.counts(id)",
        "app.branches(id)",
        "app.itself(id)",
        "app.unknown(id)",
        "$a$ or auth.uid() = owner",
    ];
    for condition in cases {
        assert_ne!(judge(condition), Judgement::Closed, "{condition}");
    }
    assert_ne!(judge("app.as_owner(id)"), Judgement::Closed);
    let deep = format!("{}auth.uid() = owner{}", "(x AND (".repeat(60), "))".repeat(60));
    assert_ne!(judge(&deep), Judgement::Closed);
}
