//! Finds by bisection where something begins to hold.

/// What a search found: the two neighbouring values between which the boundary lies.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Boundary {
    /// The largest value that does not hold; none if even the least one holds.
    pub fails: Option<f64>,
    /// The least value that holds; none if even the largest one does not.
    pub holds: Option<f64>,
}

/// Where to search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// No smaller value is tried.
    pub least: f64,
    /// No larger value is tried.
    pub most: f64,
    /// The first value that is tried.
    pub guess: f64,
    /// How far the second value lies from the first; each further one twice as far, until the boundary is between two.
    pub stride: f64,
    /// The search ends when both values are this close.
    pub resolution: f64,
}

/// Searches for the least value for which `holds`, which is expected to hold for every larger one too. `snap` rounds a
/// value to one that can be tried.
///
/// # Errors
/// What `holds` returns.
pub fn search<E>(
    range: &Range,
    snap: impl Fn(f64) -> f64,
    mut holds: impl FnMut(f64) -> Result<bool, E>,
) -> Result<Boundary, E> {
    let Range { least, most, guess, mut stride, resolution } = *range;
    let mut found = Boundary::default();
    let mut at = snap(guess).clamp(least, most);
    loop {
        if holds(at)? {
            found.holds = Some(at);
        } else {
            found.fails = Some(at);
        }
        let next = match (found.fails, found.holds) {
            (Some(fails), Some(holds)) if holds - fails <= resolution => break,
            (Some(fails), Some(holds)) => snap(f64::midpoint(fails, holds)),
            (Some(fails), None) => snap(fails + stride).min(most),
            (None, Some(holds)) => snap(holds - stride).max(least),
            (None, None) => break,
        };
        stride *= 2.0;
        // Nothing is left between the two, or beyond the last.
        let is_new =
            found.fails.is_none_or(|fails| next > fails) && found.holds.is_none_or(|holds| next < holds);
        if !is_new {
            break;
        }
        at = next;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The boundary, and how many values were tried.
    fn found(range: &Range, snap: impl Fn(f64) -> f64, boundary: f64) -> (Boundary, usize) {
        let mut tried = 0;
        let result = search(range, snap, |at| {
            tried += 1;
            Ok::<_, ()>(at >= boundary)
        });
        (result.unwrap(), tried)
    }

    const RANGE: Range = Range { least: 1.0, most: 100.0, guess: 20.0, stride: 2.0, resolution: 1.0 };

    #[test]
    fn the_boundary_is_enclosed_from_either_side_of_the_guess() {
        for (boundary, fails, holds) in
            [(20.0, 19.0, 20.0), (37.0, 36.0, 37.0), (1.5, 1.0, 2.0), (99.5, 99.0, 100.0), (3.0, 2.0, 3.0)]
        {
            let expected = Boundary { fails: Some(fails), holds: Some(holds) };
            let (found, tried) = found(&RANGE, f64::round, boundary);
            assert_eq!(found, expected, "{boundary}");
            assert!(tried <= 12, "{boundary}: {tried}");
        }
    }

    #[test]
    fn a_search_ends_where_everything_or_nothing_holds() {
        let everything = Boundary { fails: None, holds: Some(1.0) };
        assert_eq!(found(&RANGE, f64::round, 0.0).0, everything);
        assert_eq!(found(&RANGE, f64::round, 1.0).0, everything);
        assert_eq!(found(&RANGE, f64::round, 101.0).0, Boundary { fails: Some(100.0), holds: None });
        // A range of one value.
        let one = Range { least: 5.0, most: 5.0, ..RANGE };
        assert_eq!(found(&one, f64::round, 0.0), (Boundary { fails: None, holds: Some(5.0) }, 1));
    }

    #[test]
    fn values_that_round_to_the_same_are_tried_once() {
        // Steps of 10 are coarser than the resolution.
        let tens = |at: f64| (at / 10.0).ceil() * 10.0;
        let (found, tried) = found(&RANGE, tens, 33.0);
        assert_eq!((found, tried), (Boundary { fails: Some(30.0), holds: Some(40.0) }, 3));
    }

    #[test]
    fn an_error_ends_the_search() {
        let result = search(&RANGE, f64::round, |at| if at < 20.0 { Err("broken") } else { Ok(true) });
        assert_eq!(result, Err("broken"));
    }
}
