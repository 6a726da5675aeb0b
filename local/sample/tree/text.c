#include "text.h"

#include <string.h>

static int is_blank(char c)
{
	return c == ' ' || c == '\t';
}

void text_trim(char *text)
{
	size_t end = strlen(text);

	while (end > 0 && is_blank(text[end - 1]))
		end--;
	text[end] = '\0';
}

unsigned int text_words(const char *text)
{
	unsigned int words = 0;
	int inside = 0;

	for (; *text; text++) {
		if (is_blank(*text))
			inside = 0;
		else if (!inside) {
			inside = 1;
			words++;
		}
	}
	return words;
}
