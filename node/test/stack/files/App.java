import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;

/** An HTTP service that makes garbage and keeps a bounded cache. */
public class App {
    public static void main(String[] args) throws Exception {
        var cache = new ConcurrentHashMap<Integer, byte[]>();
        var server = HttpServer.create(new InetSocketAddress(8080), 100);
        server.setExecutor(Executors.newFixedThreadPool(16));
        server.createContext("/", exchange -> {
            var words = new ArrayList<String>();
            for (int i = 0; i < 20000; i++) {
                words.add(Integer.toHexString(i * 31 + exchange.hashCode()));
            }
            words.sort(null);
            cache.put(exchange.hashCode() % 4000, new byte[8192]);
            var body = words.get(0).getBytes();
            exchange.sendResponseHeaders(200, body.length);
            try (var out = exchange.getResponseBody()) {
                out.write(body);
            }
        });
        server.start();
    }
}
