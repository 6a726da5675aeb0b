package runtimetest

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Fault is a condition of the connection between instances and their lab.
type Fault int

// The conditions.
const (
	Healthy Fault = iota
	Down          // connections break at once
	Hanging       // connections are taken, and nothing comes through
)

// Door stands between the instances of a driver and the socket of their lab, and
// makes faults.
type Door struct {
	listener      net.Listener
	network, link string // of the lab
	all           sync.WaitGroup

	mu    sync.Mutex
	fault Fault
	open  map[net.Conn]bool
}

// NewDoor opens a door to the lab at the address, until the test ends. network
// is tcp or unix.
func NewDoor(t testing.TB, network, address string) *Door {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &Door{listener: l, network: network, link: address, open: map[net.Conn]bool{}}
	d.all.Go(d.serve)
	t.Cleanup(func() {
		_ = l.Close()
		d.Set(Down)
		d.all.Wait()
	})
	return d
}

// Address is what instances connect to, host:port.
func (d *Door) Address() string { return d.listener.Addr().String() }

// Set brings about a fault, or ends one. Connections that are open break.
func (d *Door) Set(f Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = f
	for c := range d.open {
		_ = c.Close() // and who serves it forgets it
	}
}

func (d *Door) serve() {
	for {
		c, err := d.listener.Accept()
		if err != nil {
			return // the test has ended
		}
		d.all.Go(func() { d.pass(c) })
	}
}

// pass connects what came in with the lab.
func (d *Door) pass(in net.Conn) {
	defer in.Close()
	fault := d.enter(in)
	defer d.leave(in)
	switch fault {
	case Down:
	case Hanging:
		_, _ = io.Copy(io.Discard, in) // until somebody closes it
	case Healthy:
		out, err := net.Dial(d.network, d.link)
		if err != nil {
			return
		}
		defer out.Close()
		d.all.Go(func() {
			_, _ = io.Copy(out, in)
			_ = out.(interface{ CloseWrite() error }).CloseWrite()
		})
		_, _ = io.Copy(in, out)
	}
}

func (d *Door) enter(c net.Conn) Fault {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fault != Down {
		d.open[c] = true
	}
	return d.fault
}

func (d *Door) leave(c net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.open, c)
}
