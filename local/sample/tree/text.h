/* Text helpers that work in place. */
#ifndef TEXT_H
#define TEXT_H

/* Removes spaces and tabs from the end. */
void text_trim(char *text);

/* Counts the words, parted by spaces or tabs. */
unsigned int text_words(const char *text);

#endif
