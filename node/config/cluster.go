package config

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
)

// defaultPort is the gossip port of an address without a port.
const defaultPort = "7946"

const (
	maxPeers       = 64
	maxClusterName = 64
)

func (c *Config) clusterKeys() []binding {
	cl := &c.Cluster
	key := func(name, help string, f field) binding {
		return binding{section: "cluster", name: name, restart: true, help: help, field: f}
	}
	return []binding{
		key("name", "name of the cluster, the same on all nodes",
			textField{&cl.Name, checkClusterName, "letters, digits, _ . -, up to 64, the first a letter or digit"}),
		key("bind", "gossip address, TCP and UDP; port 0: any free port; beyond loopback key_file is required",
			textField{&cl.Bind, checkBind, `"address:port" with an IP address`}),
		key("advertise", "gossip address for other nodes, when it is not bind",
			textField{&cl.Advertise, optional(checkAdvertise), `"host:port", a host with bind's port, or empty`}),
		key("relay", "address for calls of other nodes, TCP; empty: the address of bind, next port",
			textField{&cl.Relay, optional(checkBind), `"address:port" with an IP address, or empty`}),
		key("join", "nodes to join, retried for ever; a few of the cluster's nodes are enough",
			listField{&cl.Join, checkPeer, maxPeers, `up to 64 of "host:port", or hosts with port ` + defaultPort}),
		key("key_file", "file of the gossip keys, the same on all nodes; effiscale keygen prints a key",
			textField{&cl.KeyFile, optional(checkPath), "an absolute path, or empty"}),
		key("timing", "failure detection: with 5 nodes a crash is detected within 3 s (fast), 12 s (lan) or 60 s (wan)",
			choiceField(&cl.Timing, "fast", "lan", "wan")),
		key("attestation", "quorum: reductions on other hosts need the signatures of a quorum of the service's owners",
			choiceField(&cl.Attestation, "off", "quorum")),
		key("allow", "networks of allowed members; empty: all",
			listField{&cl.Allow, checkCIDR, maxPeers, `up to 64 networks such as "10.0.0.0/8"`}),
		key("packet_size", "largest gossip packet: the lowest MTU of the network, less 28 (IPv4) or 48 (IPv6)",
			countField{&cl.PacketSize, 512, 65000}),
	}
}

func checkClusterName(s string) error {
	if len(s) > maxClusterName {
		return errors.New("is too long")
	}
	return checkName(s)
}

// checkBind requires an address: a name might resolve to every interface of the host
// when the daemon starts.
func checkBind(s string) error {
	if err := checkAddress(s); err != nil {
		return err
	}
	host, _, _ := net.SplitHostPort(s)
	if ip, err := netip.ParseAddr(host); host != "" && (err != nil || ip.Zone() != "") {
		return errors.New("has no IP address as its host")
	}
	return nil
}

// checkPeer accepts "host" and "host:port".
func checkPeer(s string) error {
	host, port := splitPeer(s)
	if !isHost(host) || hasControl(s) {
		return errors.New("has no valid host")
	}
	if port != "" {
		if err := checkPort(port); err != nil || port == "0" {
			return errors.New("has no port from 1 to 65535")
		}
	}
	return nil
}

// checkAdvertise refuses addresses that no other node can reach.
func checkAdvertise(s string) error {
	if err := checkPeer(s); err != nil {
		return err
	}
	host, _ := splitPeer(s)
	if ip, err := netip.ParseAddr(host); err == nil && (ip.Unmap().IsUnspecified() || ip.IsMulticast()) {
		return errors.New("is not an address at which one node can be reached")
	}
	return nil
}

func checkCIDR(s string) error {
	if _, err := netip.ParsePrefix(s); err != nil {
		return errors.New("is not a network")
	}
	return nil
}

// splitPeer separates a host, which may be an IPv6 address without brackets, from
// its port, "" for none.
func splitPeer(s string) (host, port string) {
	if _, err := netip.ParseAddr(s); err == nil {
		return s, ""
	}
	if host, port, err := net.SplitHostPort(s); err == nil && port != "" {
		return host, port
	}
	return s, ""
}

// BindAddress is where gossip listens, host "" as the address of all interfaces.
func (c *Cluster) BindAddress() netip.AddrPort { return addrPort(c.Bind) }

// RelayAddress is where calls of other nodes are answered: port 0 where bind's is,
// and relay is not set.
func (c *Cluster) RelayAddress() netip.AddrPort {
	if c.Relay != "" {
		return addrPort(c.Relay)
	}
	bind := c.BindAddress()
	if bind.Port() == 0 {
		return bind
	}
	return netip.AddrPortFrom(bind.Addr(), bind.Port()+1)
}

// AdvertiseAddress is the address for other nodes. The host may be a name. bound is the
// port at which gossip listens, for a bind with port 0.
func (c *Cluster) AdvertiseAddress(bound uint16) (host string, port uint16) {
	if c.Advertise == "" {
		return c.BindAddress().Addr().String(), bound
	}
	host, digits := splitPeer(c.Advertise)
	if n, err := strconv.ParseUint(digits, 10, 16); err == nil {
		bound = uint16(n)
	}
	return host, bound
}

// Peers are the addresses to join, each host:port.
func (c *Cluster) Peers() []string {
	peers := make([]string, 0, len(c.Join))
	for _, s := range c.Join {
		host, port := splitPeer(s)
		if port == "" {
			port = defaultPort
		}
		peers = append(peers, net.JoinHostPort(host, port))
	}
	return peers
}

// addrPort reads what checkBind accepted.
func addrPort(s string) netip.AddrPort {
	host, digits, _ := net.SplitHostPort(s)
	ip, err := netip.ParseAddr(host)
	if err != nil {
		ip = netip.IPv4Unspecified() // package net listens on IPv6 too, where there is any
	}
	port, _ := strconv.ParseUint(digits, 10, 16)
	return netip.AddrPortFrom(ip.Unmap(), uint16(port))
}

const keyHint = "is reachable from other hosts, which requires a key: " +
	"set cluster.key_file, the same key on all nodes, or listen on 127.0.0.1\n" +
	"        a key: (umask 077; effiscale keygen > /etc/effiscale/cluster.key)"

// checkCluster refuses gossip without a key beyond loopback, and addresses that other
// nodes cannot use.
func (l *loader) checkCluster() {
	c := &l.config.Cluster
	bind, relay := c.BindAddress(), c.RelayAddress()
	host, _ := c.AdvertiseAddress(0)
	if c.KeyFile == "" {
		if !bind.Addr().IsLoopback() {
			l.fail("cluster.bind", quote(c.Bind), keyHint)
		} else if !relay.Addr().IsLoopback() {
			l.fail("cluster.relay", quote(c.Relay), keyHint)
		}
	}
	if c.Advertise == "" && bind.Addr().IsUnspecified() {
		l.fail("cluster.bind", quote(c.Bind),
			"is every address of this host: set cluster.advertise to the one that other nodes use")
	}
	if c.Relay == "" && bind.Port() == 65535 {
		l.fail("cluster.bind", quote(c.Bind), "has no next port for calls of other nodes: set cluster.relay")
	}
	if !isLocal(host) {
		l.checkAllowed(host)
	} else if i := firstRemote(c.Join); i >= 0 {
		l.fail("cluster.join", quote(c.Join[i]),
			"is another host, which cannot reach this one at "+host+": set cluster.bind (and cluster.advertise if needed)")
	}
	l.checkPorts(bind, relay)
}

func isLocal(host string) bool { return isLoopback(net.JoinHostPort(host, "0")) }

// firstRemote is the index of the first peer that is not on loopback; -1: none.
func firstRemote(peers []string) int {
	for i, s := range peers {
		if host, _ := splitPeer(s); !isLocal(host) {
			return i
		}
	}
	return -1
}

// checkAllowed refuses cluster.allow without the node's own address.
func (l *loader) checkAllowed(host string) {
	ip, err := netip.ParseAddr(host)
	if err != nil || len(l.config.Cluster.Allow) == 0 {
		return // a name is resolved when the daemon starts
	}
	for _, s := range l.config.Cluster.Allow {
		if p, err := netip.ParsePrefix(s); err == nil && p.Contains(ip.Unmap()) {
			return
		}
	}
	l.fail("cluster.allow", tomlText(listField{p: &l.config.Cluster.Allow}),
		"does not contain this node's own address, "+host)
}

// checkPorts refuses one port for two listeners, where both are set explicitly.
func (l *loader) checkPorts(bind, relay netip.AddrPort) {
	a, c := &l.config.API, &l.config.Cluster
	taken := []struct{ key, address string }{
		{"cluster.bind", c.Bind}, {"api.monitor", a.Monitor}, {"api.controller", a.Controller},
		{"api.execution", a.Execution},
	}
	for _, t := range taken[1:] {
		if bind.Port() != 0 && t.address == bind.String() {
			l.fail("cluster.bind", quote(c.Bind), "is the address of "+t.key+" too")
		}
	}
	for _, t := range taken {
		if relay.Port() == 0 || t.address != relay.String() {
			continue
		}
		if c.Relay == "" {
			l.fail("cluster.bind", quote(c.Bind),
				"has "+t.key+" on the next port, which is for calls of other nodes: set cluster.relay")
			continue
		}
		l.fail("cluster.relay", quote(c.Relay), "is the address of "+t.key+" too")
	}
}
