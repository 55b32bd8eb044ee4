package hosttest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"
)

// helperVar makes this test binary do one thing inside a host, for example
// "echo 10.213.0.1:7000" or "probe 10.213.0.1:7000".
const helperVar = "EFFISCALE_HOSTS_HELPER"

const (
	probes    = 100
	probeWait = 500 * time.Millisecond
)

func help(ask string) int {
	what, addr, _ := strings.Cut(ask, " ")
	var err error
	switch what {
	case "echo":
		err = echo(addr)
	case "probe":
		err = probe(addr)
	case "flood":
		err = flood(addr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// echo returns every datagram.
func echo(addr string) error {
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	buf := make([]byte, 2048)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return err
		}
		_, _ = c.WriteTo(buf[:n], from)
	}
}

// probe sends datagrams to an echo, 5 ms apart, and prints how many came back and
// how long they took together.
func probe(addr string) error {
	c, err := net.Dial("udp", addr)
	if err != nil {
		return err
	}
	go func() {
		for i := range probes {
			_, _ = fmt.Fprintf(c, "%d %d", i, time.Now().UnixNano())
			time.Sleep(5 * time.Millisecond)
		}
	}()
	_ = c.SetReadDeadline(time.Now().Add(probes*5*time.Millisecond + probeWait))
	buf, back, took := make([]byte, 64), 0, time.Duration(0)
	for back < probes {
		n, err := c.Read(buf)
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			break
		}
		if err != nil {
			continue // nobody listens, or no route: the same as lost
		}
		var i int
		var at int64
		if _, err := fmt.Sscan(string(buf[:n]), &i, &at); err == nil {
			back, took = back+1, took+time.Duration(time.Now().UnixNano()-at)
		}
	}
	fmt.Printf("%d %d\n", back, took.Nanoseconds())
	return nil
}

// flood sends garbage of every size for three seconds, by UDP and TCP.
func flood(addr string) error {
	c, err := net.Dial("udp", addr)
	if err != nil {
		return err
	}
	junk := []byte(strings.Repeat("\x01\xffgarbage\x00", 120))
	for i, end := 0, time.Now().Add(3*time.Second); time.Now().Before(end); i++ {
		_, _ = c.Write(junk[:1+i%1200])
		if i%500 == 0 {
			if t, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
				_, _ = t.Write(junk[:1+i%1200])
				defer t.Close()
			}
		}
	}
	return nil
}

// helper runs this binary inside a host.
func (h *host) helper(ask string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return launch(h.path("helper.log"), []string{helperVar + "=" + ask}, append(inside(h.n), self)...)
}

// echo answers on a port of the host until the test ends.
func (h *host) echo() string {
	h.t.Helper()
	addr := address(h.n) + ":7000"
	p, err := h.helper("echo " + addr)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(p.kill)
	return addr
}

// probe is how many of 100 datagrams come back from an echo, and their mean round
// trip.
func (h *host) probe(addr string) (back int, trip time.Duration) {
	h.t.Helper()
	self, err := os.Executable()
	if err != nil {
		h.t.Fatal(err)
	}
	words := append(inside(h.n), self)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = []string{helperVar + "=probe " + addr}
	out, err := cmd.Output()
	if err != nil {
		h.t.Fatal(err)
	}
	var took int64
	if _, err := fmt.Sscan(string(out), &back, &took); err != nil {
		h.t.Fatalf("%v: %q", err, out)
	}
	return back, time.Duration(took) / time.Duration(max(back, 1))
}
