package hosts

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
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
	case "get":
		err = get(addr)
	case "plain":
		err = plain(addr)
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

// plain is a node of the cluster's name without its key: it joins by stream, gossips
// by packets for some seconds, and prints how many others it has found.
func plain(ask string) error {
	own, seed, _ := strings.Cut(ask, " ")
	c := memberlist.DefaultLANConfig()
	c.Name, c.Label, c.BindAddr, c.LogOutput = strings.Repeat("ab", 16), clusterName, own, io.Discard
	m, err := memberlist.Create(c)
	if err != nil {
		return err
	}
	_, joinErr := m.Join([]string{seed})
	at := &memberlist.Node{Name: seed, Addr: net.ParseIP(strings.Split(seed, ":")[0]), Port: 7946}
	for range 50 {
		_ = m.SendBestEffort(at, []byte("plain text"))
		time.Sleep(100 * time.Millisecond)
	}
	fmt.Println(m.NumMembers()-1, joinErr != nil)
	return m.Shutdown()
}

// get prints a page.
func get(url string) error {
	resp, err := http.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
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
	out := h.asks("probe " + addr)
	var took int64
	if _, err := fmt.Sscan(out, &back, &took); err != nil {
		h.t.Fatalf("%v: %q", err, out)
	}
	return back, time.Duration(took) / time.Duration(max(back, 1))
}

// asks runs this binary inside a host to its end, and is what it printed.
func (h *host) asks(ask string) string {
	h.t.Helper()
	self, err := os.Executable()
	if err != nil {
		h.t.Fatal(err)
	}
	words := append(inside(h.n), self)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = []string{helperVar + "=" + ask}
	out, err := cmd.Output()
	if err != nil {
		h.t.Fatalf("%s: %v", ask, err)
	}
	return string(out)
}

// metric is a number of the daemon's own page, all values of its labels together.
func (h *host) metric(name string) (sum float64) {
	h.t.Helper()
	for line := range strings.Lines(h.asks("get http://" + monitor + "/metrics")) {
		if f := strings.Fields(line); len(f) == 2 && (f[0] == name || strings.HasPrefix(f[0], name+"{")) {
			v, _ := strconv.ParseFloat(f[1], 64)
			sum += v
		}
	}
	return sum
}
