package mongo_test

import (
	"errors"
	"testing"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/event"
	"github.com/kernelflow/kernelflow/shared/store/mongo"
	"github.com/kernelflow/kernelflow/shared/store/mongo/mongotest"
)

func TestDataOfAnEventComesBackAsItWas(t *testing.T) {
	st := open(t, mongo.Options{URI: mongotest.Start(t), Database: "data", Now: clockAt(start)})
	for name, data := range map[string]string{
		"an object in its order": `{"z":1,"a":{"c":[1,"x",null,true],"b":-2.5}}`, "null": `null`, "text": `"BEEP"`, "a number": `7`, "a long number": `12345678901`,
		"beyond 64 bits": `123456789012345678901234567890`, "a decimal": `{"n":1.0}`, "an exponent": `{"n":1e3}`, "minus zero": `{"n":-0}`, "a key twice": `{"a":1,"a":2}`,
		"spaces": `{ "a" : 1 }`, "odd keys": `{"$set":1,"a.b":2,"":3,"%2E":4,"100%":5}`, "escapes": `{"a":"\u003c\u0000ä"}`, "unlike Go": `{"a":"<\/>"}`, "nothing in it": `{"a":[],"b":{}}`,
	} {
		if err := st.Append(t.Context(), event.Event{ID: name, Channel: "custom", Time: start, Data: []byte(data)}); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		last, err := st.LastSequence(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		events, _, err := st.After(t.Context(), last-1, event.Filter{}, 1)
		if err != nil || len(events) != 1 || string(events[0].Data) != data {
			t.Errorf("%s: %+v, want %s: %v", name, events, data, err)
		}
	}
}

func TestDataThatIsNotJSONIsRefused(t *testing.T) {
	st := open(t, mongo.Options{URI: mongotest.Start(t), Database: "broken", Now: clockAt(start)})
	for _, data := range []string{"{", "{]", "1 2", `{"a":1e999}`, "\xff"} {
		fine := event.Event{ID: "fine", Channel: "custom", Time: start, Data: []byte(`1`)}
		err := st.Append(t.Context(), fine, event.Event{ID: "broken", Channel: "custom", Time: start, Data: []byte(data)})
		if !errors.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", data, err)
		}
	}
	if last, err := st.LastSequence(t.Context()); last != 0 || err != nil {
		t.Errorf("%d events are logged: %v", last, err)
	}
}
