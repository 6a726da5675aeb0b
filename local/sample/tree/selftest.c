/* The library's tests. They print KTAP, as the kernel's own tests do. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "ring.h"
#include "text.h"

static bool what_goes_in_comes_out(void)
{
	struct ring ring = { 0 };
	int item = 0;

	return ring_push(&ring, 42) && ring_pop(&ring, &item) && item == 42;
}

static bool a_full_ring_refuses(void)
{
	struct ring ring = { 0 };

	for (int i = 0; i < RING_SIZE; i++)
		if (!ring_push(&ring, i))
			return false;
	return !ring_push(&ring, 99);
}

static bool order_survives_the_wrap(void)
{
	struct ring ring = { 0 };
	int item;

	for (int i = 0; i < 3 * RING_SIZE; i++)
		if (!ring_push(&ring, i) || !ring_pop(&ring, &item) || item != i)
			return false;
	return true;
}

static bool trims_spaces(void)
{
	char text[] = "kernel   ";

	text_trim(text);
	return strcmp(text, "kernel") == 0;
}

static bool trims_tabs(void)
{
	char text[] = "kernel\t \t";

	text_trim(text);
	return strcmp(text, "kernel") == 0;
}

static bool counts_words(void)
{
	return text_words(" one commit  becomes one report") == 5;
}

struct test {
	const char *name;
	bool (*run)(void);
};

struct suite {
	const char *name;
	struct test tests[4];
};

static const struct suite suites[] = {
	{ "ring", { { "what_goes_in_comes_out", what_goes_in_comes_out },
		    { "a_full_ring_refuses", a_full_ring_refuses },
		    { "order_survives_the_wrap", order_survives_the_wrap } } },
	{ "text", { { "trims_spaces", trims_spaces },
		    { "trims_tabs", trims_tabs },
		    { "counts_words", counts_words } } },
};

static bool run(const struct suite *suite)
{
	bool good = true;

	printf("    KTAP version 1\n    # Subtest: %s\n    1..3\n", suite->name);
	for (int i = 0; suite->tests[i].run; i++) {
		bool ok = suite->tests[i].run();

		printf("    %sok %d %s\n", ok ? "" : "not ", i + 1, suite->tests[i].name);
		good &= ok;
	}
	return good;
}

int main(void)
{
	bool good = true;
	int count = sizeof(suites) / sizeof(suites[0]);

	printf("KTAP version 1\n1..%d\n", count);
	for (int i = 0; i < count; i++) {
		bool ok = run(&suites[i]);

		printf("%sok %d %s\n", ok ? "" : "not ", i + 1, suites[i].name);
		good &= ok;
	}
	return good ? 0 : 1;
}
