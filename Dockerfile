# nst on a CPU, with clips and the studio:
#
#   docker build -t nst .
#   docker run --rm -v "$PWD:/work" nst fit --data.content photo.jpg --data.style painting.jpg --output picture.png
#
# With CUDA, with torch's wheels for it, and `docker run --gpus all ...`:
#
#   docker build -t nst:cuda --build-arg TORCH=https://download.pytorch.org/whl/cu126 .
#
# The studio: docker run --rm -p 7860:7860 -e NST_STUDIO_AUTH=name:password nst studio --studio.host 0.0.0.0
FROM python:3.12-slim

ARG TORCH=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir --index-url "$TORCH" torch torchvision

COPY pyproject.toml README.md LICENSE /source/
COPY nst /source/nst
COPY configs /source/configs
RUN pip install --no-cache-dir "/source[studio,video]" && rm -r /source

# weights that are downloaded and the studio's files: mount /home/nst/.cache to keep them
RUN useradd --create-home --uid 1000 nst && mkdir /work && chown nst /work
USER nst
WORKDIR /work
ENTRYPOINT ["nst"]
CMD ["--help"]
