package heed.bench;

import java.time.Duration;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.StateStore;
import org.apache.kafka.streams.processor.StateStoreContext;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.ProcessorSupplier;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.StoreBuilder;

/**
 * The simple fold (a counter row per contact) in Kafka Streams, two threads with a connection each.
 *
 * <p>A thread gathers what its tasks read and writes it in one transaction, rows and positions together: after
 * BATCH records, LINGER after the first of them, and whenever Streams commits (a state store that holds nothing is
 * told of that before the offsets are committed). Records below the position in PostgreSQL are passed over, so the
 * effect is exactly once. An error ends the process.
 */
public final class Peer {
  private static final int THREADS = 2;
  private static final int BATCH = 8000;
  private static final Duration LINGER = Duration.ofMillis(Long.parseLong(Spec.of("LINGER_MS", "100")));
  private static final String STORE = "gathered";

  private static final ThreadLocal<Writer> WRITER = ThreadLocal.withInitial(() -> orDie(Writer::new));

  public static void main(String[] arguments) {
    Topology topology = new Topology();
    ProcessorSupplier<byte[], byte[], Void, Void> fold = Fold::new;
    topology.addSource("facts", Spec.of("TOPIC")).addProcessor("fold", fold, "facts");
    topology.addStateStore(new GatheredBuilder(), "fold");
    KafkaStreams streams = new KafkaStreams(topology, properties());
    streams.setUncaughtExceptionHandler((Throwable error) -> die(error));
    streams.start();
  }

  private static Properties properties() {
    Properties found = new Properties();
    found.put("bootstrap.servers", Spec.of("KAFKA"));
    found.put("application.id", "bench-streams-" + System.nanoTime());
    found.put("state.dir", Spec.of("FOLDER"));
    found.put("num.stream.threads", THREADS);
    found.put("commit.interval.ms", 5000);
    found.put("auto.offset.reset", "earliest");
    found.put("max.poll.records", BATCH);
    found.put("buffered.records.per.partition", 10_000);
    found.put("fetch.max.bytes", 16 << 20);
    found.put("max.partition.fetch.bytes", 4 << 20);
    found.put("receive.buffer.bytes", 1 << 20);
    found.put("poll.ms", 10);
    found.put("isolation.level", "read_committed");
    found.put("default.key.serde", Serdes.ByteArraySerde.class.getName());
    found.put("default.value.serde", Serdes.ByteArraySerde.class.getName());
    return found;
  }

  /** One task: records of one partition into the thread's writer. */
  private static final class Fold implements Processor<byte[], byte[], Void, Void> {
    private ProcessorContext<Void, Void> context;
    private Writer writer;
    private int partition;

    @Override
    public void init(ProcessorContext<Void, Void> given) {
      context = given;
      writer = WRITER.get();
      partition = given.taskId().partition();
      orDie(() -> writer.claim(partition));
      given.schedule(LINGER, PunctuationType.WALL_CLOCK_TIME, now -> {
        if (writer.count() > 0 && System.nanoTime() - writer.since() >= LINGER.toNanos()) {
          orDie(writer::write);
        }
      });
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
      long offset = context.recordMetadata().orElseThrow().offset();
      orDie(() -> writer.add(partition, offset, record.value()));
      if (writer.count() >= BATCH) {
        orDie(writer::write);
      }
    }
  }

  /** No state of its own: Streams tells its stores to be durable before it commits offsets. */
  private static final class Gathered implements StateStore {
    private Writer writer;
    private boolean open;

    @Override
    public String name() {
      return STORE;
    }

    @Override
    public void init(StateStoreContext context, StateStore root) {
      writer = WRITER.get();
      context.register(root, (key, value) -> {});
      open = true;
    }

    @Override
    public void flush() {
      orDie(writer::write);
    }

    @Override
    public void commit(Map<TopicPartition, Long> offsets) {
      flush();
    }

    @Override
    public void close() {
      open = false;
    }

    @Override
    public boolean persistent() {
      return false;
    }

    @Override
    public boolean isOpen() {
      return open;
    }
  }

  private static final class GatheredBuilder implements StoreBuilder<Gathered> {
    @Override
    public StoreBuilder<Gathered> withCachingEnabled() {
      return this;
    }

    @Override
    public StoreBuilder<Gathered> withCachingDisabled() {
      return this;
    }

    @Override
    public StoreBuilder<Gathered> withLoggingEnabled(Map<String, String> config) {
      return this;
    }

    @Override
    public StoreBuilder<Gathered> withLoggingDisabled() {
      return this;
    }

    @Override
    public Gathered build() {
      return new Gathered();
    }

    @Override
    public Map<String, String> logConfig() {
      return Map.of();
    }

    @Override
    public boolean loggingEnabled() {
      return false;
    }

    @Override
    public String name() {
      return STORE;
    }
  }

  private interface Step {
    void run() throws Exception;
  }

  private interface Made<T> {
    T get() throws Exception;
  }

  private static void orDie(Step step) {
    try {
      step.run();
    } catch (Exception error) {
      die(error);
    }
  }

  private static <T> T orDie(Made<T> made) {
    try {
      return made.get();
    } catch (Exception error) {
      throw new IllegalStateException(die(error).toString(), error);
    }
  }

  private static org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse die(
      Throwable error) {
    error.printStackTrace();
    Runtime.getRuntime().halt(3);
    throw new IllegalStateException("halted", error);
  }

  private Peer() {}
}
