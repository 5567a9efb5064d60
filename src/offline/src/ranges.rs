//! Sets of offsets as ranges, each from the first up to before the second.

use model::Offset;

pub type Range = (Offset, Offset);

/// Ranges in rising order that do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<Range>);

impl Ranges {
    /// Adds a range; usually it follows the last one.
    pub fn add(&mut self, from: Offset, to: Offset) {
        if from >= to {
            return;
        }
        match self.0.last_mut() {
            Some(last) if last.1 == from => last.1 = to,
            Some(last) if last.1 > from => {
                self.0.push((from, to));
                self.0.sort_unstable();
                let all = std::mem::take(&mut self.0);
                for (from, to) in all {
                    match self.0.last_mut() {
                        Some(last) if last.1 >= from => last.1 = last.1.max(to),
                        _ => self.0.push((from, to)),
                    }
                }
            }
            _ => self.0.push((from, to)),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Range> + '_ {
        self.0.iter().copied()
    }

    pub fn first(&self) -> Option<Offset> {
        self.0.first().map(|range| range.0)
    }

    /// What of `from..to` is in none of these ranges.
    pub fn missing_in(&self, from: Offset, to: Offset) -> Vec<Range> {
        let mut missing = Vec::new();
        let mut at = from;
        for (start, end) in self.iter() {
            if end <= at {
                continue;
            }
            if start >= to {
                break;
            }
            if start > at {
                missing.push((at, start));
            }
            at = end;
        }
        if at < to {
            missing.push((at, to));
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_and_show_their_holes() {
        let mut ranges = Ranges::default();
        for (from, to) in [(5, 10), (10, 12), (20, 30), (7, 8), (11, 15)] {
            ranges.add(from, to);
        }
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [(5, 15), (20, 30)]);
        assert_eq!(ranges.missing_in(0, 40), [(0, 5), (15, 20), (30, 40)]);
        assert_eq!(ranges.missing_in(6, 14), []);
        assert_eq!(ranges.missing_in(12, 22), [(15, 20)]);
        assert_eq!(Ranges::default().missing_in(3, 4), [(3, 4)]);
    }
}
