//! What needs no model; masked runs are tested through the program.

use super::masks::Mask;
use super::search::{by_size, random_orders, sizes};

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
