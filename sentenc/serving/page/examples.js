// Examples: queries by the name of their index, and sentences for any model.

const FACTBOOK = [
  "elephants are hunted illegally",
  "landlocked mountain country",
  "the army took power",
  "sea level rise threatens low islands",
  "tax haven for foreign companies",
  "cold winters with lots of snow",
  "forests are cut down for farmland",
  "not enough drinking water",
];

export const QUERIES = { factbook: FACTBOOK, "factbook-words": FACTBOOK };

export const SENTENCES = {
  Everyday: [
    "A man is playing a guitar.",
    "Someone plays an instrument.",
    "A woman is slicing onions.",
    "The cook cuts vegetables.",
    "The stock market fell sharply today.",
    "Share prices dropped this afternoon.",
    "The children are swimming in the lake.",
    "Kids play in the water.",
  ],
  "Not and never": [
    "The food was good.",
    "The food was not good.",
    "The meal was excellent.",
    "The meal was bad.",
    "I would go there again.",
    "I would never go there again.",
  ],
  Support: [
    "How do I reset my password?",
    "I forgot my login.",
    "Where can I download my invoice?",
    "I need a receipt for my payment.",
    "The app crashes when I open it.",
    "It closes by itself right after starting.",
    "Can I change the delivery address?",
    "Please send the parcel somewhere else.",
    "How do I cancel my subscription?",
    "I want to end my contract.",
  ],
};
