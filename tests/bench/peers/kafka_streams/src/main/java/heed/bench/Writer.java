package heed.bench;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.TreeMap;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyIn;

/**
 * What one thread has gathered, and its one way into PostgreSQL: COPY into a temporary table, positions compared and
 * set, one upsert (the bench's own statements, the same for every contender), one commit.
 */
final class Writer {
  private static final JsonFactory JSON = new JsonFactory();
  private static final int CONTACT_AT = "contact:".length();
  private static final String CLAIM =
      "insert into bench.position as p (reader, topic, part, epoch, next_offset, as_of, log_end, log_end_at, backend,"
          + " owner, claimed_at) values ('bench', ?, ?, 1, 0, 'epoch', 0, clock_timestamp(), pg_backend_pid(), ?,"
          + " clock_timestamp()) on conflict (reader, topic, part) do update set epoch = p.epoch + 1,"
          + " owner = excluded.owner, backend = excluded.backend, claimed_at = excluded.claimed_at"
          + " returning epoch, next_offset";
  private static final String MOVE =
      "update bench.position p set next_offset = u.next, as_of = clock_timestamp()"
          + " from unnest(?::int[], ?::bigint[], ?::bigint[], ?::bigint[]) as u(part, epoch, start, next)"
          + " where p.reader = 'bench' and p.topic = ? and p.part = u.part and p.epoch = u.epoch"
          + " and p.next_offset = u.start";

  /** A contact's counter; times are text of 24 characters, which compare as times do. */
  private static final class Counter {
    private long n;
    private String first;
    private String last;
  }

  /** The offsets [start, next) of one partition. */
  private static final class Range {
    private final long start;
    private long next;

    private Range(long start) {
      this.start = start;
      this.next = start;
    }
  }

  private final String topic = Spec.of("TOPIC");
  private final Connection connection;
  private final PreparedStatement move;
  private final PreparedStatement upsert;
  private final Map<Integer, Long> epochs = new HashMap<>();
  private final Map<Integer, Long> nexts = new HashMap<>();
  private final Map<Integer, Range> ranges = new TreeMap<>();
  private Map<String, Counter> counters = new HashMap<>(16_384);
  private int count;
  private long since;

  Writer() throws SQLException {
    connection = DriverManager.getConnection(Spec.of("JDBC"));
    connection.setAutoCommit(false);
    try (Statement statement = connection.createStatement()) {
      statement.execute(Spec.of("STAGE"));
    }
    connection.commit();
    move = connection.prepareStatement(MOVE);
    upsert = connection.prepareStatement(Spec.of("UPSERT"));
  }

  /** Records gathered and not written yet. */
  int count() {
    return count;
  }

  /** When the first of them came, by System.nanoTime. */
  long since() {
    return since;
  }

  void claim(int part) throws SQLException {
    try (PreparedStatement claim = connection.prepareStatement(CLAIM)) {
      claim.setString(1, topic);
      claim.setInt(2, part);
      claim.setString(3, Thread.currentThread().getName());
      try (ResultSet found = claim.executeQuery()) {
        found.next();
        epochs.put(part, found.getLong(1));
        nexts.put(part, found.getLong(2));
      }
    }
    connection.commit();
  }

  void add(int part, long offset, byte[] value) throws IOException {
    long next = nexts.get(part);
    if (offset < next) {
      return;
    }
    if (count++ == 0) {
      since = System.nanoTime();
      Meter.start();
    }
    count(value);
    ranges.computeIfAbsent(part, one -> new Range(next)).next = offset + 1;
    nexts.put(part, offset + 1);
  }

  private void count(byte[] value) throws IOException {
    String contact = null;
    String time = null;
    try (JsonParser parser = JSON.createParser(value)) {
      parser.nextToken();
      while ((contact == null || time == null) && parser.nextToken() == JsonToken.FIELD_NAME) {
        String name = parser.currentName();
        parser.nextToken();
        if (name.equals("subject")) {
          contact = parser.getText().substring(CONTACT_AT);
        } else if (name.equals("time")) {
          time = parser.getText();
        } else {
          parser.skipChildren();
        }
      }
    }
    Counter counter = counters.get(contact);
    if (counter == null) {
      counter = new Counter();
      counter.first = time;
      counter.last = time;
      counters.put(contact, counter);
    } else if (time.compareTo(counter.first) < 0) {
      counter.first = time;
    } else if (time.compareTo(counter.last) > 0) {
      counter.last = time;
    }
    counter.n++;
  }

  void write() throws SQLException {
    if (count == 0) {
      return;
    }
    CopyIn copy = connection.unwrap(PGConnection.class).getCopyAPI().copyIn("copy counted from stdin");
    byte[] lines = lines();
    copy.writeToCopy(lines, 0, lines.length);
    copy.endCopy();
    move();
    upsert.executeUpdate();
    connection.commit();
    int done = count;
    counters = new HashMap<>(16_384);
    ranges.clear();
    count = 0;
    Meter.add(done);
  }

  private byte[] lines() {
    String[] contacts = counters.keySet().toArray(new String[0]);
    Arrays.sort(contacts);
    StringBuilder found = new StringBuilder(contacts.length * 72);
    for (String contact : contacts) {
      Counter one = counters.get(contact);
      found.append(contact).append('\t').append(one.n).append('\t').append(one.first).append('\t');
      found.append(one.last).append('\n');
    }
    return found.toString().getBytes(StandardCharsets.UTF_8);
  }

  private void move() throws SQLException {
    int size = ranges.size();
    Object[] parts = new Object[size];
    Object[] held = new Object[size];
    Object[] starts = new Object[size];
    Object[] ends = new Object[size];
    int i = 0;
    for (Map.Entry<Integer, Range> one : ranges.entrySet()) {
      parts[i] = one.getKey();
      held[i] = epochs.get(one.getKey());
      starts[i] = one.getValue().start;
      ends[i++] = one.getValue().next;
    }
    move.setArray(1, connection.createArrayOf("int4", parts));
    move.setArray(2, connection.createArrayOf("int8", held));
    move.setArray(3, connection.createArrayOf("int8", starts));
    move.setArray(4, connection.createArrayOf("int8", ends));
    move.setString(5, topic);
    if (move.executeUpdate() != size) {
      throw new SQLException("another owner has these partitions");
    }
  }
}
