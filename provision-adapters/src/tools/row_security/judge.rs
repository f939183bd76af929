//! What follows from the catalog alone.

use super::{
    catalog::{Kind, Relation, Role, Seen},
    finding::{Finding, Rule},
    names::Openings,
};

pub(super) fn judge(seen: &Seen, openings: &Openings) -> Vec<Finding> {
    let mut findings: Vec<_> =
        seen.roles.iter().flat_map(|role| judge_role(role, &seen.anonymous)).collect();
    for relation in &seen.relations {
        let owned = seen.roles.iter().any(|r| r.anon_is_member && r.name == relation.owner);
        let rules = judge_relation(relation, owned, openings);
        findings
            .extend(rules.into_iter().map(|rule| Finding::new(relation.name.to_string(), rule)));
    }
    for function in seen.functions.iter().filter(|f| f.definer && !openings.calls(&f.name)) {
        let subject = format!("{}({})", function.name, function.arguments);
        findings.push(Finding::new(subject, Rule::DefinerFunction));
    }
    findings
        .extend(seen.reached.iter().map(|reached| Finding::new(&reached.subject, reached.rule)));
    findings
}

fn judge_role(role: &Role, anonymous: &str) -> Vec<Finding> {
    let bypasses = role.bypasses.then(|| Finding::new(&role.name, Rule::RoleBypasses));
    let member = (role.anon_is_member && role.name != anonymous)
        .then(|| Finding::new(&role.name, Rule::RoleIsMember));
    bypasses.into_iter().chain(member).collect()
}

fn judge_relation(relation: &Relation, owned: bool, openings: &Openings) -> Vec<Rule> {
    let mut rules = Vec::new();
    let anon = relation.anon;
    let opened = openings.reads(&relation.name) && !anon.writes;
    let reached = (anon.selects || anon.writes) && !opened;
    match relation.kind {
        // X11: on every table, granted or not: the next grant must not open it.
        Kind::Table if !relation.row_security => rules.push(Rule::RowSecurityOff),
        Kind::Table => {}
        Kind::View if reached && !relation.security_invoker => rules.push(Rule::OwnersView),
        Kind::View => {}
        Kind::MaterializedView if reached => rules.push(Rule::MaterializedView),
        Kind::MaterializedView => {}
        Kind::ForeignTable if reached => rules.push(Rule::ForeignTable),
        Kind::ForeignTable => {}
    }
    if owned {
        rules.push(Rule::OwnedByAnonymous);
    }
    if anon.truncates {
        rules.push(Rule::Truncates);
    }
    rules
}
