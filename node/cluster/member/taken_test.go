package member

import (
	"testing"
	"time"
)

// TestRow14TakenNames: who is gone while another node has its name is no failed member:
// all say which of the two was there first, and forget it after ten minutes, where one
// that failed stays for 72 h. While it is alive, it is what it is.
func TestRow14TakenNames(t *testing.T) {
	inBubble(t, 4, func(t *testing.T, b *bubble) {
		time.Sleep(5 * time.Second)
		join := func(id int, ip, name string) *Members {
			t.Helper()
			o := options(id)
			o.Meta.Name, o.Bind, o.Join, o.RejoinEvery = name, ip+":7946", []string{"10.0.0.1"}, 0
			o.Transport, o.Log = b.net.Host(ip).Transport(7946), b.log.logger()
			m, err := Open(o)
			if err != nil {
				t.Fatal(err)
			}
			go m.Run(t.Context())
			b.all = append(b.all, m)
			return m
		}
		status := func(i, id int) string { return peerOf(b.all[i], idOf(id)).Status }
		all := func(what string, id int, want string, of ...int) {
			t.Helper()
			b.within(t, 20*time.Second, what, func() bool {
				for _, i := range of {
					if status(i, id) != want {
						return false
					}
				}
				return true
			})
		}
		// A second one of the name of node 1 comes, and ends.
		second := join(7, "10.0.0.7", "host1")
		all("the second is seen", 7, "alive", 0, 1, 2)
		b.net.Host("10.0.0.7").Down()
		_ = second.Close()
		all("the second was refused", 7, "refused", 0, 1, 2)
		// Node 2 loses its disk, and is another one of the same name.
		b.net.Host(b.ips[2]).Down()
		all("node 2 is gone", 2, "failed", 0, 1, 3)
		join(8, "10.0.0.8", "host2")
		all("node 2 was replaced", 2, "replaced", 0, 1, 3)
		// Node 3 fails.
		b.net.Host(b.ips[3]).Down()
		all("node 3 has failed", 3, "failed", 0, 1)
		time.Sleep(keepTaken + time.Minute)
		for _, i := range []int{0, 1} {
			for _, id := range []int{2, 7} {
				if _, known := b.all[i].Peer(idOf(id)); known || status(i, id) != "" {
					t.Errorf("node %d still lists %d as %s", i, id, status(i, id))
				}
			}
			if status(i, 3) != "failed" || status(i, 8) != "alive" {
				t.Errorf("node %d: %s, %s", i, status(i, 3), status(i, 8))
			}
		}
	})
}
