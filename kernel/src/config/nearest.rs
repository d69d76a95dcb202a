// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The known name that a misspelt one is likely to stand for.

/// Longest name that is compared, in bytes; that of a node or property in the schema is much shorter.
const LONGEST: usize = 64;

/// The name of `known` that the fewest edits make of `name`, the first of several, where at most half of
/// the longer of the two is edited: further away the hint would only mislead.
pub(super) fn nearest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    let (edits, best) = known
        .iter()
        .filter_map(|&other| Some((edits(name.as_bytes(), other.as_bytes())?, other)))
        .min_by_key(|&(edits, _)| edits)?;
    (edits * 2 <= name.len().max(best.len())).then_some(best)
}

/// How many bytes have to be inserted, removed or replaced to make `to` of `from` (the Levenshtein
/// distance); `None` where `to` is longer than [`LONGEST`] or `from` than that.
fn edits(from: &[u8], to: &[u8]) -> Option<usize> {
    if from.len() > LONGEST {
        return None;
    }
    // The edits from what was looked at of `from` to each beginning of `to`.
    let mut row: [usize; LONGEST + 1] = core::array::from_fn(|length| length);
    let row = row.get_mut(..=to.len())?;
    for (index, byte) in from.iter().enumerate() {
        let mut replaced = index;
        let mut left = index + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (place, other) in row.iter_mut().skip(1).zip(to) {
            let least = (replaced + usize::from(byte != other)).min(left.min(*place) + 1);
            replaced = core::mem::replace(place, least);
            left = least;
        }
    }
    row.last().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[test]
    fn edits_are_counted() {
        for (from, to, count) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("abc", "abc", 0),
            ("kitten", "sitting", 3),
            ("memorry", "memory", 1),
            ("weigth", "weight", 2),
            ("hpt_order", "hpt-order", 1),
        ] {
            assert_eq!(edits(from.as_bytes(), to.as_bytes()), Some(count), "{from}");
        }
        assert_eq!(edits(&[b'x'; 65], b"x"), None);
        assert_eq!(edits(b"x", &[b'x'; 65]), None);
        assert_eq!(edits(&[b'x'; 64], &[b'x'; 64]), Some(0));
    }

    #[test]
    fn the_nearest_name_is_the_one_meant() {
        let known = &["memory", "vcpus", "model", "memory-policy", "hpt-order"];
        for (name, meant) in [
            ("memorry", Some("memory")),
            ("mem", Some("memory")),
            ("vcpu", Some("vcpus")),
            ("cpus", Some("vcpus")),
            ("memory-polcy", Some("memory-policy")),
            ("hpt_order", Some("hpt-order")),
            ("speed", None),
            ("", None),
            ("a-name-that-is-far-away-from-all-of-them", None),
        ] {
            assert_eq!(nearest(name, known), meant, "{name}");
        }
        assert_eq!(nearest("memory", &[]), None);
        assert_eq!(nearest("bb", &["ab", "ba"]), Some("ab"));
    }

    /// The definition, word for word.
    fn naive(from: &[u8], to: &[u8]) -> usize {
        match (from.split_last(), to.split_last()) {
            (None, _) => to.len(),
            (_, None) => from.len(),
            (Some((a, from_rest)), Some((b, to_rest))) => {
                let replaced = naive(from_rest, to_rest) + usize::from(a != b);
                replaced
                    .min(naive(from_rest, to) + 1)
                    .min(naive(from, to_rest) + 1)
            }
        }
    }

    proptest! {
        #![proptest_config(crate::rtas::testing::config())]

        #[test]
        fn edits_agree_with_their_definition(from in "[ab-]{0,6}", to in "[ab-]{0,6}") {
            let (from, to): (String, String) = (from, to);
            prop_assert_eq!(
                edits(from.as_bytes(), to.as_bytes()),
                Some(naive(from.as_bytes(), to.as_bytes()))
            );
        }

        #[test]
        fn any_name_is_taken(name in any::<String>(), known in 0..4_usize) {
            let known: Vec<&'static str> = ["memory", "vcpus", "", "x"][..known].to_vec();
            if let Some(found) = nearest(&name, &known) {
                prop_assert!(known.contains(&found));
            }
        }
    }
}
