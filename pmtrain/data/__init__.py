"""The data layer: layouts, images, transforms and loading. Nothing here imports Paddle."""
