// Package jinja renders Jinja2 templates exactly as Python's Jinja2 3.1 does in
// KernelCI's environment: the extension "do", no autoescape, and the options'
// own defaults.
//
// A template renders byte for byte as there, or ends in an error: where Python
// raises, and where something of Python is not offered (Class is Unsupported
// then). It never gives a different text silently. Two tests hold it to that:
// one compares with what Python gave once (testdata), one asks a Python with
// Jinja2 about templates that chance makes (scripts/test-jinja.sh).
//
// Values are Python's: an int has no bound, a dict keeps the order of insertion
// and is the same object wherever it is named, None is not undefined, and all
// of them print as Python prints them. A text is a sequence of characters.
//
// # How it works
//
// The lexer cuts the text into tokens, the parser makes statements and
// expressions of them, and linking decides, as Jinja2's compiler does, to which
// scope each name belongs: that is where `set` in a loop is lost and a macro sees
// what is set later. Statements are then executed, expressions evaluated, each
// by a method of its node. Inside the package an exception is a panic with an
// *exception, which Render turns into an error; nothing else recovers it but
// what catches exceptions in Python, too.
//
// # Bounds
//
// A rendering ends with an error (Class LimitError) when it takes more than its
// context's time, 20 million steps, 256 MiB for all values it makes, 200 calls
// of macros, blocks, includes and recursive loops in each other, or 100
// templates; statements and expressions nest at most 100 deep. All of them are
// looked at before the memory or the time is spent.
//
// # Not offered
//
// These are errors here: attributes of Python's own objects that show its
// insides (__class__ and the like), printing an object whose address Python
// would show (a method, a generator), complex numbers, bytes, sets (of a dict's
// keys), lone surrogates, characters by their names (\N{...}), pprint of more
// than a line, urlize, the tag autoescape, lipsum, and random, unless the
// program gives its randomness.
//
// # Decisions
//
// An interpreter of our own, not gonja: gonja differs from Jinja2 in its lexer,
// its precedences, its values (a copy where Python shares, one nil for None and
// undefined, sorted dicts), its scopes and its loader. A layer that mends all
// of that replaces most of it, and what remains cannot be interrupted. The
// price is some thousand lines to keep. Python itself in a process beside us
// was rejected: a service in Go would ship a second language, and a template
// could do there what the process may do.
//
// Exceptions are panics inside the package, as in encoding/json and
// text/template: every operation of Python may raise, and an error result on
// each of them would hide what the code says.
//
// Where Jinja2 itself is odd, this is odd in the same way: (-2) ** n is -(2 **
// n), since its optimizer writes the constant without brackets; a float beyond
// all bounds is an error except where it is printed at once.
//
// Nothing is cached between renderings: a rendering reads and parses each of
// its templates once, which takes well under a millisecond for KernelCI's.
package jinja
