package mongo_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"sync"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/wiremessage"

	"github.com/kernelflow/kernelflow/shared/store/mongo/mongotest"
)

// command is one that a client has sent to a set.
type command struct {
	name        string
	transaction string // session and number of the one that it is in; "": in none
	starts      bool   // it begins that

	body      bson.D   // without what belongs to sessions
	sequences []byte   // the sections of the message behind the body, as they are
	list      []bson.D // what is in the first of them: documents, or updates
}

// watch sees each command of a client but its greetings. What it returns is
// the answer; carryOut has the set do it and gives the set's.
type watch func(c command, carryOut func() bson.Raw) bson.Raw

// set stands in front of a FerretDB and is the primary of a replica set that
// has transactions. What is written in one is kept until it is committed and
// then done as one; who was crossed by others learns it there.
type set struct {
	t        testing.TB
	listener net.Listener
	watch    watch
	clients  sync.WaitGroup

	backend string

	mu        sync.Mutex
	db        net.Conn             // to the FerretDB, of the client whose turn it is
	conns     map[net.Conn]bool    // nil once closed
	open      map[string][]command // the writes of each transaction
	committed map[string]bool
}

// startSet runs a set for the length of the test and returns its URI. The
// watch may be nil.
func startSet(t testing.TB, w watch) string {
	t.Helper()
	backend, err := url.Parse(mongotest.Start(t))
	if err != nil {
		t.Fatal(err)
	}
	s := &set{t: t, watch: w, backend: backend.Host, conns: map[net.Conn]bool{}, open: map[string][]command{}, committed: map[string]bool{}}
	if s.watch == nil {
		s.watch = func(_ command, carryOut func() bson.Raw) bson.Raw { return carryOut() }
	}
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	s.clients.Go(s.accept)
	t.Cleanup(s.close)
	return "mongodb://" + s.listener.Addr().String() + "/"
}

func (s *set) close() {
	s.mu.Lock()
	err := s.listener.Close()
	for c := range s.conns {
		_ = c.Close() // its end may have been faster
	}
	s.conns = nil
	s.mu.Unlock()
	s.clients.Wait()
	if err != nil {
		s.t.Error(err)
	}
}

func (s *set) accept() {
	for {
		client, err := s.listener.Accept()
		if err != nil {
			return
		}
		db, err := net.Dial("tcp", s.backend)
		if err != nil {
			s.t.Error(err)
			return
		}
		s.mu.Lock()
		if s.conns == nil {
			_, _ = client.Close(), db.Close() // nobody waits for them
		} else {
			s.conns[client], s.conns[db] = true, true
			s.clients.Go(func() { s.serve(client, db) })
		}
		s.mu.Unlock()
	}
}

// serve answers one client's messages until either side ends.
func (s *set) serve(client, db net.Conn) {
	defer func() { _, _ = client.Close(), db.Close() }() // close may have been faster
	for {
		request, err := readMessage(client)
		if err != nil {
			return
		}
		if _, err := client.Write(s.answer(request, db)); err != nil {
			return
		}
	}
}

// oldQuery is the kind of message that is no longer in use but for the first of
// a connection.
const oldQuery = 2004

// answer does one message at a time, so that a commit is one.
func (s *set) answer(request []byte, db net.Conn) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.db = db
	_, id, _, opcode, rest, _ := wiremessage.ReadHeader(request)
	if opcode == oldQuery {
		return s.greetOld(request)
	}
	c := readCommand(rest)
	if slices.Contains([]string{"hello", "isMaster", "ismaster"}, c.name) {
		return wrap(id, s.greeting(s.ask(c)), nil)
	}
	return wrap(id, s.watch(c, func() bson.Raw { return s.carryOut(c) }), nil)
}

// greeting makes that of a replica set's primary of one that stands alone.
func (s *set) greeting(alone bson.Raw) bson.Raw {
	var d bson.D
	if err := bson.Unmarshal(alone, &d); err != nil {
		s.t.Error(err)
	}
	host := s.listener.Addr().String()
	return encode(append(d, bson.D{{Key: "setName", Value: "set"}, {Key: "hosts", Value: bson.A{host}}, {Key: "me", Value: host},
		{Key: "primary", Value: host}, {Key: "setVersion", Value: 1}, {Key: "secondary", Value: false}}...))
}

// greetOld answers the greeting with which a driver begins a connection, in an
// older form of the protocol.
func (s *set) greetOld(request []byte) []byte {
	const before = 36 // header, flags, cursor, start and count of an answer
	answer := s.exchange(request)
	if len(answer) < before {
		return nil
	}
	answer = append(answer[:before:before], s.greeting(answer[before:])...)
	binary.LittleEndian.PutUint32(answer, uint32(len(answer)))
	return answer
}

// carryOut does what a member of a replica set does.
func (s *set) carryOut(c command) bson.Raw {
	if c.transaction == "" {
		return s.ask(c)
	}
	if c.starts {
		s.open[c.transaction] = nil
	}
	writes, open := s.open[c.transaction]
	switch {
	case c.name == "commitTransaction" && s.committed[c.transaction]:
		return encode(bson.D{{Key: "ok", Value: 1}})
	case !open:
		return failure(251, "NoSuchTransaction", "TransientTransactionError")
	case c.name == "find":
		return s.ask(c)
	case c.name == "insert", c.name == "update":
		if refusal := s.refusal(c); refusal != nil {
			delete(s.open, c.transaction)
			return refusal
		}
		s.open[c.transaction] = append(writes, c)
		return encode(bson.D{{Key: "n", Value: len(c.list)}, {Key: "nModified", Value: len(c.list)}, {Key: "ok", Value: 1}})
	}
	delete(s.open, c.transaction)
	switch c.name {
	case "abortTransaction":
		return encode(bson.D{{Key: "ok", Value: 1}})
	case "commitTransaction":
		return s.commit(c.transaction, writes)
	}
	return failure(263, "OperationNotSupportedInTransaction")
}

func (s *set) commit(transaction string, writes []command) bson.Raw {
	for _, w := range writes {
		if s.refusal(w) != nil {
			return failure(112, "WriteConflict", "TransientTransactionError")
		}
	}
	for _, w := range writes {
		if answer := s.ask(w); answer.Lookup("n").AsInt64() != int64(len(w.list)) {
			s.t.Errorf("committing %s: %s", w.name, answer)
		}
	}
	s.committed[transaction] = true
	return encode(bson.D{{Key: "ok", Value: 1}})
}

// refusal is why a write of a transaction cannot be done; nil: it can.
func (s *set) refusal(c command) bson.Raw {
	collection := c.body[0].Value
	database := bson.E{Key: "$db", Value: value(c.body, "$db")}
	for i, one := range c.list {
		query, wanted := any(bson.D{{Key: "_id", Value: value(one, "_id")}}), int64(0)
		if c.name == "update" {
			query, wanted = value(one, "q"), 1
		}
		there := s.ask(command{body: bson.D{{Key: "count", Value: collection}, {Key: "query", Value: query}, database}})
		if there.Lookup("n").AsInt64() == wanted {
			continue
		}
		if c.name == "update" {
			return failure(112, "WriteConflict", "TransientTransactionError")
		}
		taken := bson.D{{Key: "index", Value: i}, {Key: "code", Value: 11000}, {Key: "errmsg", Value: "E11000 duplicate key error"}}
		return encode(bson.D{{Key: "n", Value: i}, {Key: "writeErrors", Value: bson.A{taken}}, {Key: "ok", Value: 1}})
	}
	return nil
}

// ask has the FerretDB do a command.
func (s *set) ask(c command) bson.Raw {
	_, _, _, _, rest, _ := wiremessage.ReadHeader(s.exchange(wrap(1, encode(c.body), c.sequences)))
	body, _ := sections(rest)
	if body == nil {
		return failure(6, "HostUnreachable")
	}
	return body
}

// exchange gives nil when the FerretDB does not answer, which is an error
// unless the set is at its end.
func (s *set) exchange(request []byte) []byte {
	_, err := s.db.Write(request)
	var answer []byte
	if err == nil {
		answer, err = readMessage(s.db)
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		s.t.Error(err)
	}
	return answer
}

func readMessage(from io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(from, size[:]); err != nil {
		return nil, err
	}
	message := make([]byte, binary.LittleEndian.Uint32(size[:]))
	copy(message, size[:])
	_, err := io.ReadFull(from, message[4:])
	return message, err
}

// sections splits what is behind a message's header.
func sections(rest []byte) (body bson.Raw, sequences []byte) {
	_, rest, _ = wiremessage.ReadMsgFlags(rest)
	_, rest, _ = wiremessage.ReadMsgSectionType(rest)
	doc, rest, ok := wiremessage.ReadMsgSectionSingleDocument(rest)
	if !ok {
		return nil, nil
	}
	return bson.Raw(doc), rest
}

func readCommand(rest []byte) command {
	raw, sequences := sections(rest)
	var body bson.D
	if err := bson.Unmarshal(raw, &body); err != nil || len(body) == 0 {
		return command{}
	}
	c := command{name: body[0].Key, sequences: sequences, starts: value(body, "startTransaction") == true}
	if value(body, "autocommit") == false {
		c.transaction = fmt.Sprint(value(body, "lsid"), value(body, "txnNumber"))
	}
	c.body = slices.DeleteFunc(body, func(e bson.E) bool {
		return slices.Contains([]string{"lsid", "txnNumber", "startTransaction", "autocommit", "readConcern"}, e.Key)
	})
	var docs []bsoncore.Document
	if _, sequence, ok := wiremessage.ReadMsgSectionType(sequences); ok {
		_, docs, _, _ = wiremessage.ReadMsgSectionDocumentSequence(sequence)
	}
	for _, doc := range docs {
		var d bson.D
		if err := bson.Unmarshal(doc, &d); err == nil {
			c.list = append(c.list, d)
		}
	}
	return c
}

// wrap makes a message of a body and the sections behind it.
func wrap(answered int32, body bson.Raw, sequences []byte) []byte {
	start, m := wiremessage.AppendHeaderStart(nil, wiremessage.NextRequestID(), answered, wiremessage.OpMsg)
	m = wiremessage.AppendMsgSectionType(wiremessage.AppendMsgFlags(m, 0), wiremessage.SingleDocument)
	m = append(append(m, body...), sequences...)
	return bsoncore.UpdateLength(m, start, int32(len(m)))
}

// failure is the answer to a command that failed.
func failure(code int, name string, labels ...string) bson.Raw {
	return encode(bson.D{{Key: "ok", Value: 0}, {Key: "code", Value: code}, {Key: "codeName", Value: name}, {Key: "errmsg", Value: name},
		{Key: "errorLabels", Value: labels}})
}

func encode(d bson.D) bson.Raw {
	raw, err := bson.Marshal(d)
	if err != nil {
		panic(err) // a test's own words
	}
	return raw
}

func value(d bson.D, key string) any {
	for _, e := range d {
		if e.Key == key {
			return e.Value
		}
	}
	return nil
}
