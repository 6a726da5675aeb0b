package lavaresult

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/text/encoding"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

// Bounds of what is held in memory.
const (
	maxSmall      = 4 << 10 // bytes of an id and the like
	maxDefinition = 4 << 20 // bytes of a definition
	MaxResults    = 8 << 20 // bytes of all results; read, they take twenty times as much
)

// Head is what a callback says of the job as a whole.
type Head struct {
	Job    string // the lab's id
	Status int    // 2 complete, 3 incomplete, 4 canceled
}

// Copy copies a callback without its token, and with nothing of the secrets in
// the job's definition, as one object of JSON. A body that is no callback is
// Invalid, and what was written of it must not be used.
func Copy(w io.Writer, r io.Reader, secrets ...string) (Head, error) {
	c := &copier{out: w, secrets: secrets}
	err := Scan(r, c.member)
	if err == nil {
		err = c.end()
	}
	if errors.Is(err, encoding.ErrInvalidUTF8) {
		err = malformed("it is not valid UTF-8")
	}
	if err != nil {
		return Head{}, fmt.Errorf("callback: %w", err)
	}
	return c.head()
}

// CallbackFile is the name under which a callback is kept, packed by gzip, in the
// folder of its node.
const CallbackFile = "lava_callback.json.gz"

// Kept says where a callback is kept: the data of an event on channel "callback".
type Kept struct {
	Node node.ID `json:"id"`
	Job  string  `json:"job_id"`
	Path string  `json:"path"` // in the storage
}

type copier struct {
	out                    io.Writer
	secrets                []string
	id, status, definition bytes.Buffer
	first                  bool
	seen                   map[string]bool
}

func (c *copier) member(key string) (Sink, error) {
	if c.seen == nil {
		c.seen = map[string]bool{}
	}
	if c.seen[key] {
		return Sink{}, malformed("the key " + strconv.Quote(key) + " is there twice")
	}
	c.seen[key] = true
	switch key {
	case "token":
		return Sink{}, nil
	case "definition":
		return Sink{Text: &limited{&c.definition, maxDefinition, key}}, nil
	}
	sink := Sink{Raw: c.out}
	switch key {
	case "id":
		sink.Raw = io.MultiWriter(c.out, &limited{&c.id, maxSmall, key})
	case "status":
		sink.Raw = io.MultiWriter(c.out, &limited{&c.status, maxSmall, key})
	}
	return sink, c.key(key)
}

func (c *copier) key(key string) error {
	opening := ",\n"
	if !c.first {
		c.first, opening = true, "{\n"
	}
	quoted, err := json.Marshal(key)
	if err == nil {
		_, err = fmt.Fprintf(c.out, "%s %s: ", opening, quoted)
	}
	return err
}

func (c *copier) end() error {
	definition := c.definition.String()
	for _, secret := range c.secrets {
		if secret != "" {
			definition = strings.ReplaceAll(definition, secret, "[secret]")
		}
	}
	quoted, err := json.Marshal(definition)
	if err == nil {
		err = c.key("definition")
	}
	if err == nil {
		_, err = fmt.Fprintf(c.out, "%s\n}\n", quoted)
	}
	return err
}

// head reads what the job is and how it ended.
func (c *copier) head() (Head, error) {
	var id, status json.Number
	if err := json.Unmarshal(c.id.Bytes(), &id); err != nil || id == "" {
		return Head{}, errs.New(errs.Invalid, "callback: id: must be the number of a job")
	}
	err := json.Unmarshal(c.status.Bytes(), &status)
	number, convErr := strconv.Atoi(string(status))
	if err != nil || convErr != nil || !ended(number) {
		return Head{}, errs.New(errs.Invalid, "callback: status: must be 2 (complete), 3 (incomplete) or 4 (canceled)")
	}
	return Head{Job: string(id), Status: number}, nil
}

// The numbers by which LAVA calls how a job ended.
const (
	Complete   = 2
	Incomplete = 3
	Canceled   = 4
	canceling  = 5
)

func ended(status int) bool { return status >= Complete && status <= canceling }

// Parse reads a callback as Copy has left it, and passes its log on while it is
// read. What is too long for it is Invalid.
func Parse(r io.Reader, log io.Writer) (report Report, err error) {
	var id, status, definition, device, results bytes.Buffer
	err = Scan(r, func(key string) (Sink, error) {
		switch key {
		case "id":
			return Sink{Raw: &limited{&id, maxSmall, key}}, nil
		case "status":
			return Sink{Raw: &limited{&status, maxSmall, key}}, nil
		case "definition":
			return Sink{Text: &limited{&definition, maxDefinition, key}}, nil
		case "actual_device_id":
			return Sink{Text: &limited{&device, maxSmall, key}}, nil
		case "results":
			return Sink{Raw: &limited{&results, MaxResults, key}}, nil
		case "log":
			return Sink{Text: log}, nil
		}
		return Sink{}, nil
	})
	if err != nil {
		return Report{}, fmt.Errorf("callback: %w", err)
	}
	head, err := (&copier{id: id, status: status}).head()
	if err != nil {
		return Report{}, err
	}
	report = Report{Head: head, Device: device.String()}
	if report.Cases, err = suites(results.Bytes()); err != nil {
		report.Problem = err.Error()
	}
	return report, nil
}
