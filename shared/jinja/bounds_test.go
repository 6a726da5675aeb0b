package jinja_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/jinja"
)

// TestHostileTemplatesEndSoon gives what would take all time, memory or stack;
// each must end with an error of ours long before.
func TestHostileTemplatesEndSoon(t *testing.T) {
	many := func(n int, part string) string { return strings.Repeat(part, n) }
	numbered := func(n int, before, after string) string {
		var out strings.Builder
		for i := range n {
			out.WriteString(before + strings.Repeat("x", 1+i%50) + string(rune('a'+i%26)) + after)
		}
		return out.String()
	}
	for name, text := range map[string]string{
		"a power":              `{{ 9 ** 99999999 }}`,
		"powers of powers":     `{% set x = 9 ** 9999 %}{{ (x ** x) > 1 }}`,
		"products":             `{% set ns = namespace(x=3) %}{% for i in range(99) %}{% set ns.x = ns.x * ns.x %}{% endfor %}`,
		"a text":               `{{ 'x' * 999999999 }}`,
		"a constant text":      `{{ ('x' * 999999999) | length }}`,
		"a list":               `{{ [0] * 999999999 }}`,
		"texts of texts":       `{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x | replace('a', 'aaaa') %}{% endfor %}`,
		"centered":             `{{ 'x'.center(999999999) }}`,
		"padded":               `{{ '%999999999d' % 1 }}`,
		"formatted":            `{{ '{:999999999}'.format(1) }}`,
		"a format's precision": `{{ '{:.999999999f}'.format(1.5) }}`,
		"tabs":                 `{{ ('\t' * 99999).expandtabs(99999) }}`,
		"indented":             `{{ ('a\n' * 9999) | indent(99999) }}`,
		"a growing list":       `{% set l = [1] %}{% for i in l %}{% do l.append(i) %}{% endfor %}`,
		"a growing dict":       `{% set d = {} %}{% for i in range(9999999) %}{% do d.update({i: i}) %}{% endfor %}`,
		"lists in lists":       `{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}`,
		"as JSON":              `{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x | tojson }}`,
		"as YAML":              `{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ kci_yaml_dump(ns.x) }}`,
		"shared lists":         `{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}`,
		"compared":             `{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}`,
		"a macro in itself":    `{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}`,
		"callers":              `{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}{{ m() }}`,
		"a block in itself":    `{% block b %}{{ self.b() }}{% endblock %}`,
		"an include of itself": `{% include 'main' %}`,
		"an import of itself":  `{% import 'main' as m %}`,
		"a parent of itself":   `{% extends 'main' %}`,
		"a recursive loop":     `{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}`,
		"brackets":             "{{ " + many(200_000, "("),
		"lists open":           "{{ " + many(200_000, "[") + many(200_000, "]") + " }}",
		"minus":                "{{ " + many(400_000, "-") + "1 }}",
		"not":                  "{{ " + many(200_000, "not ") + "1 }}",
		"sums":                 "{{ 1" + many(200_000, "+1") + " }}",
		"sums of names":        "{{ n" + many(200_000, "+n") + " }}",
		"filters":              "{{ n" + many(100_000, "|abs") + " }}",
		"attributes":           "{{ n" + many(200_000, ".a") + " }}",
		"calls":                "{{ n" + many(200_000, "()") + " }}",
		"ifs open":             many(50_000, "{% if n %}"),
		"names and branches":   numbered(10_000, "{% set ", " = 1 %}") + many(10_000, "{% if n %}{% set q = 1 %}{% endif %}{% for i in [1] %}{% include s %}{% endfor %}"),
		"loops in loops":       many(9, "{% for i in range(999) %}") + many(9, "{% endfor %}"),
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			out, err := engine(map[string]string{"main": text}).Render(ctx, "main", map[string]jinja.Value{"n": 1, "s": "none"})
			if !errors.Is(err, errs.Invalid) || errors.Is(ctx.Err(), context.DeadlineExceeded) {
				t.Errorf("%.100q, %v, %v", out, err, ctx.Err())
			}
		})
	}
}

func TestATimeLimitEndsARendering(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	<-ctx.Done()
	_, err := engine(map[string]string{"main": `{% for i in range(9999) %}{% endfor %}`}).Render(ctx, "main", nil)
	if !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "longer than it may") {
		t.Error(err)
	}
}
