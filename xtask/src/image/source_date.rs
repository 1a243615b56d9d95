//! The time that everything in an image gets.

use crate::git::Git;
use tare_oci::units::Epoch;

/// SOURCE_DATE_EPOCH, else the commit's time, else 0. Git is waited for only when the time is needed, which with
/// cargo is when the program has been built.
#[derive(Debug, Clone, Copy)]
pub struct SourceDate<'a> {
    /// What SOURCE_DATE_EPOCH says.
    pub chosen: Option<Epoch>,
    /// Who knows the commit.
    pub git: &'a Git,
}

impl SourceDate<'_> {
    /// The time; waits for git if it has to be asked.
    #[must_use]
    pub fn time(&self) -> Epoch {
        self.chosen.or_else(|| self.git.time()).unwrap_or(Epoch::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_chosen_wins_over_the_commit() {
        let (seven, nothing) = (Git::of_commit(7), Git::of_nothing());
        let five = "5".parse().ok();
        for (chosen, git, seconds) in [(five, &seven, 5), (None, &seven, 7), (None, &nothing, 0)] {
            assert_eq!(SourceDate { chosen, git }.time().seconds(), seconds);
        }
    }
}
