"""Finds near-duplicates and paraphrases in a list of texts, and the groups that they form."""

import sentenc
from sentenc.retrieval import group_pairs, mine_pairs

encoder = sentenc.load("cse-en")
texts = [
    "How do I reset my password?",
    "The parcel has not arrived yet.",
    "How can I reset my password?",
    "My package still hasn't arrived.",
    "how do i reset my password",
    "Where can I see my invoices?",
]
pairs = mine_pairs(texts, encoder=encoder, threshold=0.6)
for score, left, right in pairs:
    print(f"{score:.3f}  {texts[left]}  |  {texts[right]}")
for group in group_pairs(len(texts), pairs.left, pairs.right):
    print([texts[i] for i in group])
