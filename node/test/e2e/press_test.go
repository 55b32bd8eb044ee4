package e2e

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// press sends requests to a container's HTTP load at a rate that can be changed,
// and counts those that failed. Each costs what --work says, so that the rate
// times the work is the demand in cores.
type press struct {
	sent, failed atomic.Int64
	rate         atomic.Int64 // requests a second; 0: none
	url          string
	client       *http.Client
	last         atomic.Value // string: how the last failure went
	done         chan struct{}
	once         sync.Once
	wait         sync.WaitGroup
}

// callers bounds the requests under way: a service that cannot keep up gets as
// many as wait, as with any pool of connections.
const callers = 16

func (b *box) press(t *testing.T) *press {
	t.Helper()
	ip := b.inspect().NetworkSettings.IPAddress
	if ip == "" {
		t.Fatalf("%s has no address", b.name)
	}
	p := &press{url: fmt.Sprintf("http://%s:8080/", ip), done: make(chan struct{}),
		client: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: callers}}}
	eventually(t, 10*time.Second, b.name+" serves", func() bool {
		resp, err := p.client.Get(p.url + "health")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
	turns := make(chan struct{})
	for range callers {
		p.wait.Go(func() {
			for range turns {
				p.ask()
			}
		})
	}
	p.wait.Go(func() { p.pace(turns) })
	t.Cleanup(p.stop)
	return p
}

// pace hands out turns; a turn that nobody has time for is not made up.
func (p *press) pace(turns chan<- struct{}) {
	defer close(turns)
	for {
		rate := p.rate.Load()
		wait := 20 * time.Millisecond
		if rate > 0 {
			wait = time.Second / time.Duration(rate)
		}
		select {
		case <-p.done:
			return
		case <-time.After(wait):
		}
		if rate == 0 {
			continue
		}
		select {
		case turns <- struct{}{}:
		case <-p.done:
			return
		}
	}
}

func (p *press) ask() {
	p.sent.Add(1)
	resp, err := p.client.Get(p.url)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s", resp.Status)
		}
	}
	if err != nil {
		p.failed.Add(1)
		p.last.Store(err.Error())
	}
}

func (p *press) stop() {
	p.once.Do(func() { close(p.done) })
	p.wait.Wait()
	p.client.CloseIdleConnections()
}
