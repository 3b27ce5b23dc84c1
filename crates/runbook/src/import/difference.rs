//! Two texts side by side, as everybody writes it: `-` what went, `+` what came, and three lines around.

/// Lines that are compared exactly. Longer texts are compared by what they begin and end with.
const LINES_MAX: usize = 3000;
const AROUND: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Same,
    Gone,
    Come,
}

/// A unified difference; empty when the texts are the same.
#[must_use]
pub fn difference(before: &str, after: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let script = script(&old, &new);
    let mut out = String::new();
    let changed: Vec<usize> = script.iter().enumerate().filter(|(_, one)| one.0 != Kind::Same).map(|(at, _)| at).collect();
    let mut next = 0;
    while let Some(first) = changed.get(next) {
        let from = first.saturating_sub(AROUND);
        let mut last = *first;
        while let Some(more) = changed.get(next).filter(|more| **more <= last + 2 * AROUND) {
            last = *more;
            next += 1;
        }
        let to = (last + AROUND + 1).min(script.len());
        hunk(&script, from, to, &mut out);
    }
    out
}

fn hunk(script: &[(Kind, &str)], from: usize, to: usize, out: &mut String) {
    let count = |range: &[(Kind, &str)], without: Kind| range.iter().filter(|one| one.0 != without).count();
    let (old_from, new_from) = (count(&script[..from], Kind::Come), count(&script[..from], Kind::Gone));
    let (old_len, new_len) = (count(&script[from..to], Kind::Come), count(&script[from..to], Kind::Gone));
    // An empty side is said to stand behind the line before it.
    let begin = |at: usize, len: usize| if len == 0 { at } else { at + 1 };
    out.push_str(&format!("@@ -{},{old_len} +{},{new_len} @@\n", begin(old_from, old_len), begin(new_from, new_len)));
    for (kind, line) in &script[from..to] {
        out.push(match kind {
            Kind::Same => ' ',
            Kind::Gone => '-',
            Kind::Come => '+',
        });
        out.push_str(line);
        out.push('\n');
    }
}

/// Every line of both texts, in order. What both begin and end with is the same; between is the longest common sequence.
fn script<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<(Kind, &'a str)> {
    let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(|(a, b)| a == b).count();
    let (left, right) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
    let mut script: Vec<(Kind, &str)> = old[..head].iter().map(|line| (Kind::Same, *line)).collect();
    if left.len() > LINES_MAX || right.len() > LINES_MAX {
        script.extend(left.iter().map(|line| (Kind::Gone, *line)));
        script.extend(right.iter().map(|line| (Kind::Come, *line)));
    } else {
        common(left, right, &mut script);
    }
    script.extend(old[old.len() - tail..].iter().map(|line| (Kind::Same, *line)));
    script
}

fn common<'a>(left: &[&'a str], right: &[&'a str], script: &mut Vec<(Kind, &'a str)>) {
    let width = right.len() + 1;
    // How long the common sequence is from each place on.
    let mut lengths = vec![0u16; (left.len() + 1) * width];
    for i in (0..left.len()).rev() {
        for j in (0..right.len()).rev() {
            lengths[i * width + j] = if left[i] == right[j] {
                lengths[(i + 1) * width + j + 1] + 1
            } else {
                lengths[(i + 1) * width + j].max(lengths[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < left.len() || j < right.len() {
        if i < left.len() && j < right.len() && left[i] == right[j] {
            script.push((Kind::Same, left[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == right.len() || i < left.len() && lengths[(i + 1) * width + j] >= lengths[i * width + j + 1] {
            script.push((Kind::Gone, left[i]));
            i += 1;
        } else {
            script.push((Kind::Come, right[j]));
            j += 1;
        }
    }
}
