//! Stages that need each other, which no order builds.

/// A stage that needs itself, by way of others perhaps. `needs` are pairs: a stage, and one that it needs.
pub(super) fn find(stages: usize, needs: &[(usize, usize)]) -> Option<usize> {
    let mut open = vec![0_usize; stages];
    let mut needed_by = vec![Vec::new(); stages];
    for (stage, needed) in needs {
        open[*stage] += 1;
        needed_by[*needed].push(*stage);
    }
    let mut ready: Vec<usize> = (0..stages).filter(|stage| open[*stage] == 0).collect();
    while let Some(done) = ready.pop() {
        for stage in &needed_by[done] {
            open[*stage] -= 1;
            if open[*stage] == 0 {
                ready.push(*stage);
            }
        }
    }
    // What is left is on a circle or needs one: as many steps as there are stages end on it.
    let mut next = vec![0; stages];
    for (stage, needed) in needs.iter().filter(|(_, needed)| open[*needed] > 0) {
        next[*stage] = *needed;
    }
    let first = (0..stages).find(|stage| open[*stage] > 0)?;
    Some((0..stages).fold(first, |at, _| next[at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_stage_on_the_circle() {
        assert_eq!(find(0, &[]), None);
        assert_eq!(find(4, &[(3, 2), (3, 1), (2, 0), (1, 0), (2, 0)]), None);
        assert_eq!(find(1, &[(0, 0)]), Some(0));
        // 2 only needs the circle.
        let found = find(4, &[(2, 1), (1, 0), (0, 1), (3, 2)]).unwrap();
        assert!([0, 1].contains(&found), "{found}");
    }
}
