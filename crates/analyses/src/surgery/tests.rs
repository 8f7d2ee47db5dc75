//! What needs no prompts; masked runs are tested through the program.

use super::masks::Mask;
use super::search::{Search, by_size, include, random_orders, sizes};

#[test]
fn no_two_masks_have_the_same_text() {
    assert_eq!(Mask::only(9, &[7, 0, 2, 1]).text(), "0-2 7");
    assert_eq!(Mask::without(3, 1).text(), "0 2");
    assert_eq!(Mask::only(3, &[]).text(), "none");
    assert_eq!(Mask::only(3, &[2, 1, 0]).text(), "all");
    assert_eq!(Mask::uniform(3, 0.5).text(), "all * 0.5");
    assert_eq!(Mask::without(1, 0).text(), "none");
    assert_eq!((Mask::without(3, 1).n_on(), Mask::uniform(3, 0.5).n_on()), (2, 3));
}

#[test]
fn orders_are_complete_and_sizes_end_with_all() {
    assert_eq!(sizes(30, 6), [5, 10, 15, 20, 25, 30]);
    assert_eq!(sizes(3, 6), [1, 2, 3]);
    assert_eq!(sizes(7, 1), [7]);
    for (mut sizes, size, with) in [
        (vec![15, 30], 18, vec![18, 30]),
        (vec![15, 30], 30, vec![15, 30]),
        // The size of all blocks stays, however near.
        (vec![10, 20, 30], 29, vec![10, 29, 30]),
        (vec![10, 20, 30], 4, vec![4, 20, 30]),
        (vec![7], 3, vec![3, 7]),
    ] {
        include(&mut sizes, size);
        assert_eq!(sizes, with);
    }
    assert_eq!(by_size(&[0.0, 2.0, 1.0, 2.0]), [1, 3, 2, 0]);
    let orders = random_orders(10, 20, 4);
    assert_eq!(orders, random_orders(10, 20, 4));
    for order in &orders {
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..10).collect::<Vec<_>>());
    }
    assert!(orders.iter().any(|order| *order != orders[0]));
}

/// Sets grown and pruned where `recovers` says what a set recovers; with the number of sets that were measured.
fn searched(n: usize, share: f64, recovers: impl Fn(&[usize]) -> f64) -> (Vec<usize>, Vec<usize>, usize) {
    let mut measured = 0;
    let mut points = |_: &str, sets: &[Vec<usize>]| {
        measured += sets.len();
        Ok(sets.iter().map(|set| recovers(set)).collect())
    };
    let alone: Vec<f64> = (0..n).map(|b| recovers(&[b])).collect();
    let mut search = Search { points: &mut points, n, share };
    let grown = search.greedy(&alone, 6).expect("a set");
    let all: Vec<usize> = (0..n).collect();
    let without = |b: usize| all.iter().copied().filter(|&o| o != b).collect::<Vec<_>>();
    let missed: Vec<f64> = all.iter().map(|&b| recovers(&all) - recovers(&without(b))).collect();
    let shortest = search.shorter(&by_size(&alone), grown.order.len()).expect("a set");
    let pruned = search.prune(&shortest.unwrap_or(grown.order.clone()), &missed).expect("a set");
    assert_eq!(grown.sizes.last(), Some(&grown.order.len()));
    (grown.order, pruned, measured)
}

#[test]
fn few_blocks_that_do_everything_are_found() {
    // Blocks 3 and 17 of 30 carry 60% and 35%, the others share the rest.
    let share_of = |b: usize| match b {
        3 => 0.6,
        17 => 0.35,
        _ => 0.05 / 28.0,
    };
    let (_, pruned, _) = searched(30, 0.9, |set| set.iter().map(|&b| share_of(b)).sum());
    assert_eq!(pruned, [3, 17]);
    // Two that do the same are both good alone; only one stays.
    let twins = |set: &[usize]| {
        0.8 * f64::from(u8::from(set.contains(&4) || set.contains(&5)))
            + 0.2 * f64::from(u8::from(set.contains(&9)))
    };
    let (_, pruned, _) = searched(12, 0.95, twins);
    assert_eq!((pruned.len(), pruned[1]), (2, 9));
    assert!([4, 5].contains(&pruned[0]));
    // Blocks that work against the rest are not taken.
    let (order, pruned, _) =
        searched(10, 0.89, |set| set.iter().map(|&b| if b % 2 == 0 { 0.3 } else { -0.1 }).sum());
    assert!(order.iter().all(|b| b % 2 == 0), "{order:?}");
    assert_eq!(pruned.len(), 3);
}

#[test]
fn many_small_blocks_take_few_steps() {
    let (order, pruned, measured) = searched(30, 0.9, |set| set.len() as f64 / 30.0);
    assert_eq!((order.len(), pruned.len()), (27, 27));
    assert!(measured < 100, "{measured} sets");
}

#[test]
fn the_shortest_beginning_of_an_order_is_one_that_was_measured() {
    let shortest = |share: f64, than: usize, recovers: &dyn Fn(&[usize]) -> f64| {
        let mut seen = Vec::new();
        let mut points = |_: &str, sets: &[Vec<usize>]| {
            seen.extend(sets.iter().map(Vec::len));
            Ok(sets.iter().map(|set| recovers(set)).collect())
        };
        let order: Vec<usize> = (0..30).rev().collect();
        let found = Search { points: &mut points, n: 30, share }.shorter(&order, than).expect("an answer");
        assert!(found.as_ref().is_none_or(|set| set[..] == order[..set.len()] && seen.contains(&set.len())));
        (found.map(|set| set.len()), seen.len())
    };
    let evenly = |set: &[usize]| set.len() as f64 / 30.0;
    for (share, needed) in [(0.01, 1), (0.5, 15), (0.9, 27)] {
        let (found, tried) = shortest(share, 30, &evenly);
        assert_eq!(found, Some(needed));
        assert!(tried <= 6, "{tried} sets");
    }
    // Not with fewer than so many; one is the least.
    assert_eq!(shortest(0.5, 15, &evenly), (None, 1));
    assert_eq!(shortest(0.5, 1, &evenly), (None, 0));
}
