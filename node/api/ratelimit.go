package api

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Requests a second and the burst above them: one client that asks for each of
// a hundred containers twice a second is served; a flood is not.
const (
	clientRate, clientBurst = 200, 400
	globalRate, globalBurst = 1000, 2000
	// maxClients bounds the table of buckets. When it is full of clients that
	// are busy, further ones share one bucket.
	maxClients = 1024
)

// limiter holds a bucket for all and one for each client address.
type limiter struct {
	global, shared *rate.Limiter

	mu      sync.Mutex
	clients map[netip.Prefix]*rate.Limiter // guarded by mu
	swept   time.Time                      // guarded by mu: when idle clients were last dropped
}

func newLimiter() *limiter {
	return &limiter{
		global:  rate.NewLimiter(globalRate, globalBurst),
		shared:  rate.NewLimiter(clientRate, clientBurst),
		clients: map[netip.Prefix]*rate.Limiter{},
	}
}

// allow reports whether a request from remote ("ip:port") may be served at now.
// A client that is over its own rate takes nothing from the others.
func (l *limiter) allow(remote string, now time.Time) bool {
	return l.bucket(clientKey(remote), now).AllowN(now, 1) && l.global.AllowN(now, 1)
}

func (l *limiter) bucket(key netip.Prefix, now time.Time) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.clients[key]; b != nil {
		return b
	}
	if len(l.clients) >= maxClients {
		if now.Sub(l.swept) < time.Second {
			return l.shared // looking through the table for each request would help the flood
		}
		l.swept = now
		for k, b := range l.clients {
			if b.TokensAt(now) >= clientBurst { // idle: a new bucket would be the same
				delete(l.clients, k)
			}
		}
		if len(l.clients) >= maxClients {
			return l.shared
		}
	}
	b := rate.NewLimiter(clientRate, clientBurst)
	l.clients[key] = b
	return b
}

// clientKey is the address, or for IPv6 its /64, which is what one client gets.
func clientKey(remote string) netip.Prefix {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}
	}
	ip = ip.Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
