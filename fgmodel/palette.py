"""Colours that every eye tells apart (Okabe and Ito), and a grey that is seen on white and on black."""

BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
PINK, ORANGE, SKY, YELLOW = "#CC79A7", "#E69F00", "#56B4E9", "#F0E442"
GREY = "#767676"
SIX = (BLUE, VERMILION, GREEN, PINK, ORANGE, SKY)  # yellow is lost on white
