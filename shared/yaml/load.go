package yaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/jinja"
)

// Bounds of a text.
const (
	maxText  = 4 << 20 // bytes
	maxDepth = 200     // collections in each other
)

// Unmarshal decodes YAML into a Go value, as go.yaml.in/yaml does.
func Unmarshal(text []byte, out any) error { return yaml.Unmarshal(text, out) }

// Load is the value of a text that holds one document, as yaml.load gives it;
// None for an empty one. Its errors are Invalid.
func Load(text []byte) (jinja.Value, error) {
	v, err := load(text)
	if err != nil {
		return nil, fmt.Errorf("yaml.Load: %w", errs.Wrap(errs.Invalid, err))
	}
	return v, nil
}

func load(text []byte) (jinja.Value, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("the text has more than %d bytes", maxText)
	}
	if deep(text) {
		return nil, fmt.Errorf("brackets are nested more than %d deep", maxDepth)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var doc, next yaml.Node
	if err := decoder.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, err
	}
	if err := decoder.Decode(&next); !errors.Is(err, io.EOF) {
		return nil, errors.Join(errors.New("more than one document"), err)
	}
	if err := anchors(&doc, map[string]bool{}, 0); err != nil {
		return nil, err
	}
	c := &constructor{made: map[*yaml.Node]jinja.Value{}, flat: map[*yaml.Node][]*yaml.Node{}}
	return c.make(&doc)
}

// deep says whether there are so many brackets that the parser, which recurses,
// had better not see them.
func deep(text []byte) bool {
	depth := 0
	for _, b := range text {
		switch b {
		case '[', '{':
			if depth++; depth > 50*maxDepth {
				return true
			}
		case ']', '}':
			depth = max(depth-1, 0)
		}
	}
	return false
}

// anchors refuses a name that two nodes have.
func anchors(n *yaml.Node, seen map[string]bool, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("line %d: nested more than %d deep", n.Line, maxDepth)
	}
	if n.Anchor != "" {
		if seen[n.Anchor] {
			return fmt.Errorf("line %d: the anchor %.80s is there twice", n.Line, n.Anchor)
		}
		seen[n.Anchor] = true
	}
	for _, child := range n.Content {
		if err := anchors(child, seen, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// constructor makes values of nodes; a node that is there again gives the same.
type constructor struct {
	made  map[*yaml.Node]jinja.Value
	flat  map[*yaml.Node][]*yaml.Node
	depth int
}

func (c *constructor) make(n *yaml.Node) (jinja.Value, error) {
	if c.depth++; c.depth > maxDepth {
		return nil, fmt.Errorf("line %d: nested more than %d deep", n.Line, maxDepth)
	}
	defer func() { c.depth-- }()
	if v, ok := c.made[n]; ok {
		return v, nil
	}
	switch n.Kind {
	case yaml.DocumentNode:
		return c.make(n.Content[0])
	case yaml.AliasNode:
		return c.make(n.Alias)
	case yaml.SequenceNode:
		return c.list(n)
	case yaml.MappingNode:
		return c.dict(n)
	}
	v, err := scalar(n)
	if err != nil {
		return nil, fmt.Errorf("line %d: %w", n.Line, err)
	}
	c.made[n] = v
	return v, nil
}

// tagOf is the short name of a node's tag; plain is what it has without one.
func tagOf(n *yaml.Node, plain string) (string, error) {
	if n.Style&yaml.TaggedStyle == 0 || n.Tag == "!" {
		return plain, nil
	}
	tag, ok := strings.CutPrefix(n.ShortTag(), "!!")
	if !ok || strings.HasPrefix(tag, "python/") {
		return "", fmt.Errorf("line %d: the tag %.80s is not known", n.Line, n.Tag)
	}
	return tag, nil
}

func (c *constructor) list(n *yaml.Node) (jinja.Value, error) {
	if tag, err := tagOf(n, "seq"); err != nil || tag != "seq" {
		return nil, errors.Join(fmt.Errorf("line %d: a sequence cannot be of the tag %.80s", n.Line, n.Tag), err)
	}
	l := &jinja.List{}
	c.made[n] = l
	for _, item := range n.Content {
		v, err := c.make(item)
		if err != nil {
			return nil, err
		}
		l.Items = append(l.Items, v)
	}
	return l, nil
}

func (c *constructor) dict(n *yaml.Node) (jinja.Value, error) {
	if tag, err := tagOf(n, "map"); err != nil || tag != "map" {
		return nil, errors.Join(fmt.Errorf("line %d: a mapping cannot be of the tag %.80s", n.Line, n.Tag), err)
	}
	d := jinja.NewDict()
	c.made[n] = d
	pairs, err := c.flatten(n)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(pairs); i += 2 {
		key, err := c.key(pairs[i])
		if err != nil {
			return nil, err
		}
		value, err := c.make(pairs[i+1])
		if err != nil {
			return nil, err
		}
		d.Set(key, value)
	}
	return d, nil
}

func (c *constructor) key(n *yaml.Node) (jinja.Value, error) {
	if n.Kind == yaml.ScalarNode && n.Style == 0 && n.Value == "=" {
		return "=", nil
	}
	v, err := c.make(n)
	switch v.(type) {
	case *jinja.List, *jinja.Dict:
		return nil, fmt.Errorf("line %d: a collection cannot be a key", n.Line)
	}
	return v, err
}

// maxMerged is how many pairs merge keys may bring into one text.
const maxMerged = 100_000

// flatten are the keys and values of a mapping: those that it merges come first,
// so that its own win.
func (c *constructor) flatten(n *yaml.Node) ([]*yaml.Node, error) {
	if pairs, ok := c.flat[n]; ok {
		return pairs, nil
	}
	c.flat[n] = nil // a mapping that merges itself
	var merged, own []*yaml.Node
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if !isMerge(key) {
			own = append(own, key, value)
			continue
		}
		more, err := c.merge(value)
		if err != nil {
			return nil, err
		}
		if merged = append(merged, more...); len(merged) > maxMerged {
			return nil, fmt.Errorf("line %d: more than %d values are merged", key.Line, maxMerged)
		}
	}
	c.flat[n] = append(firstOfShort(merged), own...)
	return c.flat[n], nil
}

// firstOfShort drops pairs whose key is one character and was there before.
// PyYAML compares keys by identity when it merges, and Python has each such
// text once; of longer keys the last one counts, as everywhere.
func firstOfShort(pairs []*yaml.Node) []*yaml.Node {
	seen := map[string]bool{}
	var out []*yaml.Node
	for i := 0; i < len(pairs); i += 2 {
		key := pairs[i].Value
		if short := []rune(key); pairs[i].Kind == yaml.ScalarNode && (len(short) == 0 || len(short) == 1 && short[0] <= 0xff) {
			if seen[key] {
				continue
			}
			seen[key] = true
		}
		out = append(out, pairs[i], pairs[i+1])
	}
	return out
}

func isMerge(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Style&^yaml.TaggedStyle == 0 && n.Value == "<<" && (n.Style == 0 || n.ShortTag() == "!!merge")
}

// merge are the pairs of a mapping, or of several.
func (c *constructor) merge(n *yaml.Node) ([]*yaml.Node, error) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch n.Kind {
	case yaml.MappingNode:
		return c.flatten(n)
	case yaml.SequenceNode:
		var all []*yaml.Node
		for _, item := range n.Content {
			if item.Kind == yaml.AliasNode {
				item = item.Alias
			}
			if item.Kind != yaml.MappingNode {
				return nil, fmt.Errorf("line %d: only mappings can be merged", item.Line)
			}
			pairs, err := c.flatten(item)
			if err != nil {
				return nil, err
			}
			if all = append(all, pairs...); len(all) > maxMerged {
				return nil, fmt.Errorf("line %d: more than %d values are merged", n.Line, maxMerged)
			}
		}
		return all, nil
	}
	return nil, fmt.Errorf("line %d: only mappings can be merged", n.Line)
}

func scalar(n *yaml.Node) (jinja.Value, error) {
	plain := "str"
	if n.Style&^yaml.TaggedStyle == 0 {
		plain = jinja.YAMLTag(n.Value)
	}
	tag, err := tagOf(n, plain)
	if err != nil {
		return nil, err
	}
	switch tag {
	case "null":
		return nil, nil
	case "bool":
		return boolean(n.Value)
	case "int":
		return integer(n.Value)
	case "float":
		return float(n.Value)
	case "timestamp":
		return timestamp(n.Value)
	case "str":
		return n.Value, nil
	}
	return nil, fmt.Errorf("the tag %.80s is not known", tag)
}

func boolean(text string) (jinja.Value, error) {
	switch strings.ToLower(text) {
	case "yes", "true", "on":
		return true, nil
	case "no", "false", "off":
		return false, nil
	}
	return nil, fmt.Errorf("%.80q is no boolean", text)
}

// sign cuts the sign off a number without its underscores.
func sign(text string) (digits string, negative bool) {
	text = strings.ReplaceAll(text, "_", "")
	if rest, ok := strings.CutPrefix(text, "-"); ok {
		return rest, true
	}
	return strings.TrimPrefix(text, "+"), false
}

func integer(text string) (jinja.Value, error) {
	digits, negative := sign(text)
	total := new(big.Int)
	ok := digits != "" && len(digits) < 4300
	switch {
	case !ok:
	case strings.Contains(digits, ":"):
		for part := range strings.SplitSeq(digits, ":") {
			i, valid := new(big.Int).SetString(part, 10)
			if ok = ok && valid; ok {
				total.Add(total.Mul(total, big.NewInt(60)), i)
			}
		}
	case strings.HasPrefix(digits, "0b"), strings.HasPrefix(digits, "0x"):
		_, ok = total.SetString(digits, 0)
	case digits != "0" && digits[0] == '0':
		_, ok = total.SetString(digits, 8)
	default:
		_, ok = total.SetString(digits, 10)
	}
	if !ok {
		return nil, fmt.Errorf("%.80q is no integer", text)
	}
	if negative {
		total.Neg(total)
	}
	if total.IsInt64() {
		return int(total.Int64()), nil
	}
	return total, nil
}

func float(text string) (jinja.Value, error) {
	digits, negative := sign(strings.ToLower(text))
	total := 0.0
	switch digits {
	case ".inf":
		total = math.Inf(1)
	case ".nan":
		return math.NaN(), nil
	default:
		for part := range strings.SplitSeq(digits, ":") {
			f, err := strconv.ParseFloat(part, 64)
			if err != nil && !errors.Is(err, strconv.ErrRange) {
				return nil, fmt.Errorf("%.80q is no float", text)
			}
			total = total*60 + f
		}
	}
	if negative {
		total = -total
	}
	return total, nil
}

var timestampForm = regexp.MustCompile(`^([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})(?:(?:[Tt]|[ \t]+)([0-9]{1,2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]*))?(?:[ \t]*(Z|[-+][0-9]{1,2}(?::[0-9]{2})?))?)?$`)

// timestamp is a date, or a date and time, in the form that Python prints.
func timestamp(text string) (jinja.Value, error) {
	m := timestampForm.FindStringSubmatch(text)
	if m == nil {
		return nil, fmt.Errorf("%.80q is no date", text)
	}
	numbers := make([]int, 7)
	for i := 1; i < 7; i++ {
		numbers[i], _ = strconv.Atoi(m[i])
	}
	t := time.Date(numbers[1], time.Month(numbers[2]), numbers[3], numbers[4], numbers[5], numbers[6], 0, time.UTC)
	if t.Year() != numbers[1] || int(t.Month()) != numbers[2] || t.Day() != numbers[3] || t.Hour() != numbers[4] || t.Minute() != numbers[5] || t.Second() != numbers[6] || numbers[1] == 0 {
		return nil, fmt.Errorf("%.80q is no date", text)
	}
	if m[4] == "" {
		return &jinja.YAMLTime{Text: t.Format(time.DateOnly)}, nil
	}
	out := t.Format(time.DateTime)
	if fraction := (m[7] + "000000")[:6]; fraction != "000000" {
		out += "." + fraction
	}
	return &jinja.YAMLTime{Text: out + zone(m[8])}, nil
}

func zone(text string) string {
	switch text {
	case "":
		return ""
	case "Z":
		return "+00:00"
	}
	hours, minutes, _ := strings.Cut(text[1:], ":")
	if len(hours) == 1 {
		hours = "0" + hours
	}
	if minutes == "" {
		minutes = "00"
	}
	if hours == "00" && minutes == "00" {
		return "+00:00"
	}
	return text[:1] + hours + ":" + minutes
}
