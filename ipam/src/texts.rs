//! Several texts in one piece of memory.

use std::sync::Arc;

/// `ENDS` texts and a last one. Clones share the piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Texts<const ENDS: usize> {
    /// One after the other.
    text: Arc<str>,
    /// Where each ends, in bytes; the last one ends with `text`.
    ends: [u32; ENDS],
}

impl<const ENDS: usize> Texts<ENDS> {
    /// The texts in this order.
    ///
    /// # Panics
    /// If all but the last have 4 GiB together, which no document has.
    pub(crate) fn new(first: [&str; ENDS], last: &str) -> Self {
        let bytes = first.iter().map(|text| text.len()).sum::<usize>() + last.len();
        let mut text = String::with_capacity(bytes);
        let ends = first.map(|part| {
            text.push_str(part);
            u32::try_from(text.len()).expect("a document is smaller")
        });
        text.push_str(last);
        Self { text: text.into(), ends }
    }

    /// The text at a place, from 0 to `ENDS`.
    pub(crate) fn get(&self, index: usize) -> &str {
        let begin = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        let end = self.ends.get(index).map_or(self.text.len(), |&end| end as usize);
        &self.text[begin..end]
    }

    /// Bytes of all of them.
    #[cfg(feature = "kubernetes")]
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Allocation;

    #[test]
    fn each_text_is_given_back_as_it_was() {
        for all in [["", "", ""], ["a", "", "c"], ["", "bb", ""], ["é", "日本/ü", "𝄞"], ["", "", "ż"]]
        {
            let [one, two, last] = all;
            let texts = Texts::new([one, two], last);
            assert_eq!([0, 1, 2].map(|index| texts.get(index)), all);
            assert_eq!(texts.clone(), texts);
        }
        assert_eq!(Texts::new([], "only").get(0), "only");
        // The same letters, and the ends differ.
        assert_ne!(Texts::new(["a", "b"], ""), Texts::new(["ab", ""], ""));
    }

    #[test]
    fn the_ends_and_where_the_text_is_are_all_that_it_takes() {
        assert_eq!(size_of::<Texts<2>>(), size_of::<Arc<str>>() + 8);
        assert_eq!(size_of::<Allocation>(), size_of::<Texts<2>>() + size_of::<usize>());
    }
}
