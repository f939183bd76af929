//! Two texts, line by line.

/// What has gone with `-`, what has come with `+`, and what is the same around it.
pub(super) fn lines(before: &str, after: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    let same = same_below(&old, &new);
    let (mut i, mut j, mut marked) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            marked.push((' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && same[i + 1][j] >= same[i][j + 1]) {
            marked.push(('-', old[i]));
            i += 1;
        } else {
            marked.push(('+', new[j]));
            j += 1;
        }
    }
    around_changes(&marked)
}

/// How many lines two texts have in common from each pair of lines on.
fn same_below(old: &[&str], new: &[&str]) -> Vec<Vec<usize>> {
    let mut same = vec![vec![0; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            same[i][j] = match old[i] == new[j] {
                true => same[i + 1][j + 1] + 1,
                false => same[i + 1][j].max(same[i][j + 1]),
            };
        }
    }
    same
}

fn around_changes(marked: &[(char, &str)]) -> String {
    const AROUND: usize = 2;
    let mut text = String::new();
    let mut left_out = false;
    for (at, (mark, line)) in marked.iter().enumerate() {
        let near = &marked[at.saturating_sub(AROUND)..marked.len().min(at + AROUND + 1)];
        if near.iter().any(|(mark, _)| *mark != ' ') {
            if std::mem::take(&mut left_out) {
                text += "  ..\n";
            }
            text += &format!("{mark} {line}\n");
        } else {
            left_out = true;
        }
    }
    text
}

#[test]
fn only_what_differs_is_marked() {
    let before = "a\nb\nc\nd\ne\nf\ng";
    let told = lines(before, "a\nb\nc\nd\nx\nf\ng\nh");
    assert_eq!(told, "  ..\n  c\n  d\n- e\n+ x\n  f\n  g\n+ h\n");
    assert_eq!(lines(before, before), "");
}
