# A server for a trained model, from the wheel that `make wheel` leaves in dist. docs/serving.md has the commands.
FROM python:3.12-slim

# torch for the CPU: the default wheel brings gigabytes of CUDA.
RUN pip install --no-cache-dir torch --index-url https://download.pytorch.org/whl/cpu
COPY dist/*.whl /tmp/
RUN pip install --no-cache-dir "$(ls /tmp/*.whl)[serve]" && rm /tmp/*.whl && useradd --no-create-home server

USER server
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
# A run's folder, or a model's with its data, is mounted at /model.
ENTRYPOINT ["llm-esr", "serve", "/model", "--host", "0.0.0.0", "--port", "8000"]
