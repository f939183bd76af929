//! Whatever text comes, the catalog model answers: it never panics, never overflows its stack, and a
//! refused script leaves no trace.

use provision_adapters::supabase::sim::sql::Catalog;

use crate::sql_model::{FILES, cases};

const ROUNDS: u64 = 1_000;

/// A small generator of numbers, so that a seed repeats a run (`SplitMix64`).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

fn populated() -> (Catalog, serde_json::Value) {
    let mut catalog = Catalog::supabase_defaults();
    catalog
        .execute(
            "create table t (a int primary key, b text, c uuid); insert into t values (1, 'x', null);
             alter table t enable row level security;
             create policy p on t using (c = auth.uid()); create view v as select a, b from t;
             create function f(x int) returns int language sql as 'select x + 1'",
        )
        .unwrap();
    let before = objects(&catalog);
    (catalog, before)
}

/// Runs a script on a copy; if it is refused, the copy must be unchanged but for numbers drawn.
fn run((catalog, before): &(Catalog, serde_json::Value), role: &str, sql: &str) {
    let mut copy = catalog.clone();
    let refused = copy.execute_as(role, sql).is_err();
    let words = sql.to_ascii_lowercase();
    if refused && !words.contains("commit") && !words.contains("end") {
        assert_eq!(*before, objects(&copy), "{sql}");
    }
}

fn objects(catalog: &Catalog) -> serde_json::Value {
    let mut value = serde_json::to_value(catalog).unwrap();
    value["db"]["drawn"].take();
    value
}

/// What random statements are made of: words of the language, names that exist, values, noise.
const WORDS: &str = "
    select from where t v a b c f ( ) , ; * = <> and or not null is in any all 1 0 -1 'x'
    '{}' $$x$$ \"T\" :: int text uuid [ ] array create table view policy on using with check
    grant revoke to anon public schema alter enable row level security drop cascade insert
    into values returning update set delete group by order limit count exists union as case
    when then end begin rollback join lateral pg_class pg_catalog . now coalesce role
    function returns language sql default || ->> @> 9223372036854775807 between like
    partition of for current_user + / % primary key references if \u{1F600}
";

#[test]
fn random_words_never_panic() {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let catalog = populated();
    for seed in 0..ROUNDS {
        let mut numbers = Numbers(seed);
        let length = 1 + numbers.below(14);
        let text: Vec<&str> = (0..length).map(|_| *numbers.pick(&words)).collect();
        run(&catalog, "postgres", &text.join(" "));
    }
}

#[test]
fn damaged_statements_never_panic() {
    let steps: Vec<_> = FILES.iter().flat_map(|file| cases(file)).flat_map(|c| c.steps).collect();
    let catalog = populated();
    for seed in 0..ROUNDS {
        let mut numbers = Numbers(seed ^ 0xabcd);
        let step = numbers.pick(&steps);
        let mut words: Vec<&str> = step.sql.split_inclusive(' ').collect();
        for _ in 0..=numbers.below(3) {
            let place = numbers.below(words.len());
            match numbers.below(4) {
                0 => drop(words.remove(place)),
                1 => words.insert(place, numbers.pick(&steps).sql.split(' ').next().unwrap_or("x")),
                2 => words.rotate_left(place),
                _ => words.truncate(place.max(1)),
            }
            if words.is_empty() {
                break;
            }
        }
        let role =
            if catalog.0.query_as(&step.role, "select 1").is_ok() { &step.role } else { "anon" };
        run(&catalog, role, &words.concat());
    }
}

#[test]
fn random_characters_never_panic() {
    let symbols: Vec<char> =
        "abt1(),;'\"$*=<>:.[]{}|&-+/\\ \n\té\u{0}\u{1F600}@#?!~%^".chars().collect();
    let catalog = populated();
    for seed in 0..ROUNDS {
        let mut numbers = Numbers(seed ^ 0x5eed);
        let length = numbers.below(40);
        let text: String = (0..length).map(|_| *numbers.pick(&symbols)).collect();
        run(&catalog, "anon", &format!("select {text}"));
    }
}

#[test]
fn depth_is_refused_before_the_stack_ends() {
    let deep = |open: &str, core: &str, close: &str, times: usize| {
        format!("{}{core}{}", open.repeat(times), close.repeat(times))
    };
    let mut views = "create view w0 as select 1 as x;".to_owned();
    let mut functions = "create function g0() returns int language sql as 'select 1';".to_owned();
    for level in 1..100 {
        let below = level - 1;
        views += &format!("create view w{level} as select x from w{below};");
        functions +=
            &format!("create function g{level}() returns int language sql as 'select g{below}()';");
    }
    let scripts = [
        format!("select {}", deep("(", "1", ")", 40)),
        format!("select {}", deep("(", "1", ")", 5_000)),
        format!("select {}", deep("not ", "true", "", 5_000)),
        format!("select {}", deep("- ", "1", "", 100_000)),
        format!("select 1{}", " + 1".repeat(100)),
        format!("select 1{}", " + 1".repeat(100_000)),
        format!("select 1{}", " is null".repeat(100_000)),
        format!("select 1{}", "::int".repeat(100_000)),
        format!("select true{}", " and true".repeat(250)),
        format!("select 1{}", " union all select 1".repeat(99)),
        format!("select 1, 2{}", " union select 1, 2".repeat(30_000)),
        format!("select {}", deep("(select ", "1", ")", 30)),
        format!("select {}", deep("(select ", "1", ")", 3_000)),
        format!("select * from {}", deep("(select * from ", "t", ") x", 30)),
        format!("select {}", deep("coalesce(", "1", ")", 45)),
        format!("select {}", deep("case when true then ", "1", " end", 60)),
        format!("select array{}", deep("[", "1", "]", 1_000)),
        format!("create table d (a int{})", "[]".repeat(10_000)),
        format!("select '{}'::jsonb", deep("[", "1", "]", 10_000)),
        format!("{views} select * from w99"),
        format!("{functions} select g99()"),
    ];
    let catalog = populated();
    for sql in scripts {
        let answer = catalog.0.query_as("postgres", &sql);
        let state = answer.as_ref().err().map(|error| error.sqlstate);
        let known =
            [None, Some("54001"), Some("54000"), Some("42601"), Some("22P02"), Some("0A000")];
        assert!(known.contains(&state), "{}: {answer:?}", sql.chars().take(60).collect::<String>());
    }
}

#[test]
fn work_is_bounded() {
    let (catalog, _) = populated();
    let series = "generate_series(1, 100000)";
    let sql = format!("select count(*) from {series} a, {series} b");
    assert_eq!(catalog.query_as("anon", &sql).unwrap_err().sqlstate, "54000");
    let sql = "select count(*) from generate_series(1, 100000000)";
    assert_eq!(catalog.query_as("anon", sql).unwrap_err().sqlstate, "54000");
    let long = format!("select '{}'", "x".repeat(2 << 20));
    assert_eq!(catalog.query_as("anon", &long).unwrap_err().sqlstate, "54000");
}
