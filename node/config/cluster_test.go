package config

import (
	"slices"
	"strings"
	"testing"
)

// TestCluster: row 17, no gossip beyond loopback without a key; row 23, no address
// at which others cannot reach this node.
func TestCluster(t *testing.T) {
	const key = "\nkey_file = '/k'"
	for _, c := range []struct {
		file, want string // part of the only problem; "": none
	}{
		{"", ""},
		{"bind = '127.9.9.9:0'", ""},
		{"bind = '[::1]:7946'", ""},
		{"bind = '[::ffff:127.0.0.1]:7946'", ""},
		{"bind = '10.0.0.1:7946'", "effiscale keygen"},
		{"bind = '[fd00::1]:7946'", "effiscale keygen"},
		{"bind = '0.0.0.0:7946'\nadvertise = '10.0.0.1'", "effiscale keygen"},
		{"relay = '0.0.0.0:7947'", "effiscale keygen"},
		{"relay = ':7947'" + key, ""},
		{"bind = '10.0.0.1:7946'" + key, ""},
		// A name, and an address with a zone, would listen on all interfaces.
		{"bind = 'localhost:7946'", "no IP address"},
		{"bind = '[fe80::1%eth0]:7946'" + key, "IP address"},
		{"bind = '127.0.0.1'", "not host:port"},
		{"bind = ''", "not host:port"},
		{"bind = '0.0.0.0:7946'" + key, "set cluster.advertise"},
		{"bind = ':7946'" + key, "set cluster.advertise"},
		{"bind = '[::]:7946'\nadvertise = 'alpha.example'" + key, ""},
		{"advertise = '0.0.0.0'", "can be reached"},
		{"advertise = '0.0.0.0:7946'", "can be reached"},
		{"advertise = '::'", "can be reached"},
		{"advertise = '[::ffff:0.0.0.0]:1'", "can be reached"},
		{"advertise = '224.0.0.1'", "can be reached"},
		{"advertise = '10.0.0.1:0'", "no port"},
		{"advertise = ':7946'", "no valid host"},
		{"bind = '127.0.0.1:65535'", "set cluster.relay"},
		{"bind = '127.0.0.1:65535'\nrelay = '127.0.0.1:1'", ""},
		{"bind = '127.0.0.1:8000'", "api.monitor on the next port"},
		{"bind = '127.0.0.1:8003'", "the address of api.execution too"},
		{"relay = '127.0.0.1:7946'", "the address of cluster.bind too"},
		{"relay = '127.0.0.1:8002'", "the address of api.controller too"},
		{"join = ['localhost', '127.0.0.1:1', '::1', '[::1]:2']", ""},
		{"join = ['127.0.0.1', 'beta']", `"beta" is another host`},
		{"join = ['10.0.0.2']", "set cluster.bind"},
		{"join = ['beta', '10.0.0.2:1', 'fd00::2']\nadvertise = '192.0.2.1:1'", ""},
		{"join = ['a:b:c']", "no valid host"},
		{"join = ['a:1:2']", "no valid host"},
		{"join = ['a:']", "no valid host"},
		{"join = ['']", "no valid host"},
		{"join = [" + strings.Repeat("'a',", 65) + "]", "65 entries"},
		{"allow = ['10.0.0.0/8']", ""},
		{"allow = ['10.0.0.0/8']\nadvertise = '10.1.2.3'", ""},
		{"allow = ['10.0.0.0/8', 'fd00::/8']\nadvertise = '192.168.1.1'",
			"does not contain this node's own address, 192.168.1.1"},
		{"allow = ['10.0.0.1']", "not a network"},
		{"allow = ['10.0.0.0/33']", "not a network"},
		{"name = ''", "empty"},
		{"name = '" + strings.Repeat("a", 64) + "'", ""},
		{"name = '" + strings.Repeat("a", 65) + "'", "too long"},
		{"name = 'a b'", "not a name"},
		{"packet_size = 512", ""},
		{"packet_size = 65001", "too large"},
		{"timing = 'LAN'", "fast, lan, wan"},
		{"attestation = true", "not a string"},
		{"key_file = 'cluster.key'", "not an absolute path"},
	} {
		_, err := decode("f", []byte("[cluster]\n"+c.file), nil)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%q: %v", c.file, err)
		case c.want == "":
		case err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "problems in"):
			t.Errorf("%q: no single %q in: %v", c.file, c.want, err)
		}
	}
}

func TestClusterAddresses(t *testing.T) {
	for _, c := range []struct {
		file, bind, relay, host string
		bound, port             uint16
	}{
		{"", "127.0.0.1:7946", "127.0.0.1:7947", "127.0.0.1", 7946, 7946},
		{"bind = '127.0.0.1:0'", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1", 41000, 41000},
		{"bind = ':7000'\nadvertise = 'alpha'", "0.0.0.0:7000", "0.0.0.0:7001", "alpha", 7000, 7000},
		{"bind = '[::]:7000'\nadvertise = 'fd00::1'\nrelay = '[::1]:9'", "[::]:7000", "[::1]:9", "fd00::1", 7000, 7000},
		{"bind = '10.0.0.1:7000'\nadvertise = '[fd00::1]:7'", "10.0.0.1:7000", "10.0.0.1:7001", "fd00::1", 7000, 7},
	} {
		conf, err := decode("f", []byte("[cluster]\nkey_file = '/k'\n"+c.file), nil)
		if err != nil {
			t.Fatal(err)
		}
		cl := &conf.Cluster
		host, port := cl.AdvertiseAddress(c.bound)
		if cl.BindAddress().String() != c.bind || cl.RelayAddress().String() != c.relay || host != c.host || port != c.port {
			t.Errorf("%q: %s, %s, %s port %d", c.file, cl.BindAddress(), cl.RelayAddress(), host, port)
		}
	}
	cl := Cluster{Join: []string{"beta", "beta:1", "10.0.0.2", "fd00::2", "[fd00::2]:3"}}
	if got, want := cl.Peers(), []string{"beta:7946", "beta:1", "10.0.0.2:7946", "[fd00::2]:7946",
		"[fd00::2]:3"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
